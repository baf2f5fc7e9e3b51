"""The service as its users have it: one process, HTTP and the command line; nothing here knows its inside."""

import json
import re
import socket

import httpx
import pytest

from tests.e2e.service import Service, now_us, tracker

SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka-eu, stage: persist, after: checkout, within: 1s}
  - {hop: billing,  stage: ack,     after: kafka-eu, within: 2s, at_most: 1}
objectives:
  delivery: {target: 99%, window: 1d}
replay: {sources: [log: kafka-eu]}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One service for the tests that do not end it; each uses a flow of its own."""
    running = Service(tmp_path_factory.mktemp("service"), "--insecure").start()
    yield running
    running.close()


@pytest.fixture
def flow(service, request):
    """A flow named after the test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    service.http.put(f"/v1/flows/{name}", content=SPEC.replace("orders", name)).raise_for_status()
    return name


def way(flow, message_id, at, *, acked=True):
    """The events of one message."""
    base = {"flow": flow, "message_id": message_id}
    yield {**base, "hop": "checkout", "stage": "produce", "observed_at": at, "node": "c-1"}
    number = int(re.sub(r"\D", "", message_id) or 0)
    yield {
        **base,
        "hop": "kafka-eu",
        "stage": "persist",
        "observed_at": at + 1000,
        "partition": "orders/0",
        "offset": number,
    }
    if acked:
        yield ack(flow, message_id, at + 2000)


def ack(flow, message_id, at):
    """The last event of a message."""
    return {
        "flow": flow,
        "message_id": message_id,
        "hop": "billing",
        "stage": "ack",
        "observed_at": at,
        "delivery": "d",
    }


def many(flow, count, at, missing=frozenset()):
    """The events of `count` messages, the acks of `missing` left out."""
    return [event for n in range(count) for event in way(flow, f"m-{n}", at + n, acked=n not in missing)]


def books(service, flow):
    """The reconciliation of the last hour."""
    return service.get(f"/v1/flows/{flow}/reconciliation", **{"from": "-1h", "step": "1m"})


def test_what_is_missing_is_named_and_recovers(service, flow):
    """Messages whose ack never came are found by name, explained, counted in every book; a late ack recovers them."""
    missing = {3, 14, 15}
    service.send(many(flow, 100, now_us(), missing))
    got = service.until(lambda: books(service, flow), lambda b: b["verdicts"].get("unacknowledged") == 3)
    assert (got["produced"], got["orphans"], got["conserved"]) == (100, 0, True)
    assert got["verdicts"] == {"delivered": 97, "unacknowledged": 3}
    assert sum(w["produced"] for w in got["windows"]) == 100

    found = service.get("/v1/findings", flow=flow)["items"]
    assert {f["message_id"] for f in found} == {"m-3", "m-14", "m-15"}
    assert {(f["kind"], f["hop"], f["status"]) for f in found} == {("unacknowledged", "billing", "open")}

    message = service.get(f"/v1/flows/{flow}/messages/m-3")
    assert (message["verdict"], message["held_by"]) == ("unacknowledged", ["kafka-eu"])
    assert [(m["hop"], m["stage"], m["status"], m["covered"]) for m in message["missing"]] == [
        ("billing", "ack", "overdue", True)
    ]
    assert [(o["hop"], o["stage"]) for o in message["timeline"]] == [("checkout", "produce"), ("kafka-eu", "persist")]
    assert message["timeline"][0]["latency_ms"] == 0
    assert "billing" in message["why"]

    [incident] = service.get("/v1/incidents", flow=flow)["items"]
    assert (incident["open"], incident["owner"], incident["runbook"]) == (
        3,
        "team-payments",
        f"/runbooks/unacknowledged?incident={incident['id']}",
    )
    seen = service.http.patch(f"/v1/incidents/{incident['id']}", json={"acknowledge": True, "note": "on it"}).json()
    assert (seen["status"], seen["note"]) == ("acknowledged", "on it")

    slo = next(s for s in service.get("/v1/slos")["items"] if s["flow"] == flow)
    assert (slo["good"], slo["bad"], slo["met"], slo["status"]) == (97, 3, False, "broken")
    assert (slo["budget_left"], slo["turned_good"]) == (pytest.approx(1 - 3), 0)
    assert set(slo["burn_rates"]) == {"5m", "30m", "1h", "2h", "6h", "1d", "3d"}
    assert slo["since"] < slo["as_of"]

    service.send([ack(flow, f"m-{n}", now_us()) for n in missing])
    service.until(lambda: service.get("/v1/findings", flow=flow, status="recovered")["items"], lambda f: len(f) == 3)
    got = service.until(lambda: books(service, flow), lambda b: b["verdicts"].get("late") == 3)
    assert (got["conserved"], got["verdicts"]["delivered"]) == (True, 97)
    shown = service.get(f"/v1/incidents/{incident['id']}")
    assert (shown["status"], shown["recovered"]) == ("resolved", 3)
    assert any("resolved" in entry["what"] for entry in shown["timeline"])
    refunded = next(s for s in service.get("/v1/slos")["items"] if s["flow"] == flow)
    assert (refunded["good"], refunded["bad"], refunded["turned_good"]) == (97, 3, 0)


def test_objectives_are_reported(service, flow):
    """For a period, of one flow or of all of an owner: as JSON, as Markdown, as a page; a wrong question is refused."""
    service.send(many(flow, 40, now_us(), {7}))
    service.until(lambda: books(service, flow), lambda b: b["verdicts"].get("unacknowledged") == 1)
    told = service.until(
        lambda: service.get("/v1/slos/report", flow=flow, **{"from": "-1h"}), lambda told: told["flows"][0]["bad"]
    )
    [one] = told["flows"]
    assert (one["good"], one["bad"], one["met"], one["counts"]["unacknowledged"]) == (39, 1, False, 1)
    assert [(t["hop"], t["p50"]) for t in one["latency"]] == [
        ("", pytest.approx(0.002, rel=0.02)), ("billing", pytest.approx(0.001, rel=0.02)),
        ("kafka-eu", pytest.approx(0.001, rel=0.02)),
    ]  # fmt: skip
    assert len(one["incidents"]) == 1
    assert 0 < one["coverage"] <= 1
    owned = service.get("/v1/slos/report", owner="team-payments", **{"from": "-1h"})
    assert flow in {f["flow"] for f in owned["flows"]}

    said = service.cli("slo", "report", "--flow", flow, "--from", "-1h")
    assert said.returncode == 0, said.stderr
    assert f"# Objectives of flow `{flow}`" in said.stdout
    assert "| unacknowledged | 1 |" in said.stdout
    assert "| end to end | 0.00" in said.stdout
    shown = service.http.get("/v1/slos/report", params={"flow": flow, "format": "html"})
    assert shown.headers["content-type"].startswith("text/html")
    assert "<td>unacknowledged</td>" in shown.text
    assert flow in service.cli("slo").stdout
    first = service.get("/v1/slos", limit=1)
    rest = service.get("/v1/slos", cursor=first["next"])["items"] if first["next"] else []
    every = service.get("/v1/slos")["items"]
    assert [s["flow"] for s in [*first["items"], *rest]] == [s["flow"] for s in every]
    for asked, status in (({}, 422), ({"flow": flow, "owner": "x"}, 422), ({"owner": "nobody"}, 404),
                          ({"flow": flow, "from": "now"}, 422)):  # fmt: skip
        assert service.http.get("/v1/slos/report", params=asked).status_code == status, asked
    metrics = service.until(lambda: service.http.get("/metrics").text, lambda m: f'burn_rate{{flow="{flow}"' in m)
    assert f'tracker_delivery_ratio{{flow="{flow}"}} 0.975' in metrics


def test_what_was_dropped_as_a_range_is_found_by_name(service, flow):
    """Nobody who saw it could name the message; the finding does, and its timeline shows the drop among the events."""
    at = now_us()
    place = {"log": "kafka-eu", "partition": "orders/0", "offset_to": 9, "observed_from": at, "observed_at": at + 5000}
    gone = {"flow": flow, "hop": "kafka-eu", "stage": "drop", "reason": "expired", "evidence": "range", **place}
    skipped = {**gone, "hop": "billing", "reason": "skipped", "offset": 3, "offset_to": 4}
    service.send([*many(flow, 6, at, {1, 3}), {**gone, "offset": 0, "offset_to": 3}, skipped])
    found = service.until(lambda: service.get("/v1/findings", flow=flow)["items"], lambda items: len(items) == 2)
    told = {one["message_id"]: (one["kind"], one["held_by"], one["why"]) for one in found}
    cannot = "so billing:ack cannot happen"
    assert told == {
        "m-1": ("lost", [], f"kafka-eu dropped it (expired), {cannot}; no hop holds a copy."),
        "m-3": ("unacknowledged", ["kafka-eu"],
                f"billing dropped it (skipped), {cannot}; kafka-eu still holds a copy."),
    }  # fmt: skip
    shown = service.get(f"/v1/flows/{flow}/messages/m-1")
    assert (shown["verdict"], shown["why"]) == ("lost", told["m-1"][2])
    drop = shown["timeline"][-1]
    assert (drop["hop"], drop["stage"], drop["reason"], drop["offset"]) == ("kafka-eu", "drop", "expired", 1)
    assert drop["attributes"] == {"evidence": "range"}
    service.until(lambda: books(service, flow), lambda b: b["verdicts"].get("delivered") == 4)


def test_events_sent_again_count_once(service, flow):
    """The same events in other batches, twice and in another order, change no count."""
    events = many(flow, 20, now_us())
    service.send(events)
    service.send(reversed(events))
    service.send(events[5:30])
    got = service.until(
        lambda: books(service, flow), lambda b: b["produced"] == 20 and sum(b["verdicts"].values()) == 20
    )
    assert (got["verdicts"], got["conserved"]) == ({"delivered": 20}, True)


def test_ids_of_any_kind_have_a_page(service, flow):
    """Slashes, blanks, quotes, other alphabets, percent signs: the message is found under its very id."""
    ids = ["a/b", "..", "a b", "100%25", "<script>alert(1)</script>", "заказ-7", "[1]", 'x"y', "a?b#c"]
    service.send([event for message_id in ids for event in way(flow, message_id, now_us())])
    for message_id in ids:
        assert service.get(f"/v1/flows/{flow}/messages", id=message_id)["message_id"] == message_id
    for message_id in set(ids) - {".."}:
        encoded = httpx.URL("http://x/").copy_with(raw_path=b"/" + _quoted(message_id)).raw_path.decode()
        assert service.get(f"/v1/flows/{flow}/messages{encoded}")["message_id"] == message_id
        page = service.http.get(f"/flows/{flow}/messages{encoded}")
        assert (page.status_code, "<script>alert" in page.text) == (200, False)


def _quoted(text):
    return "".join(f"%{byte:02X}" for byte in text.encode()).encode()


def quarantine(service):
    """Every line there is: other tests of this service leave some too."""
    cursor = ""
    while cursor is not None:
        page = service.get("/v1/quarantine", cursor=cursor, limit=1000)
        yield from page["items"]
        cursor = page["next"]


def test_a_bad_line_takes_nothing_down(service, flow):
    """The good lines are judged, the bad ones are listed with line and reason, and kept."""
    good = list(way(flow, "m-1", now_us()))
    body = "\n".join(
        [json.dumps(good[0]), "oops", *map(json.dumps, good[1:]), json.dumps({**good[0], "flow": "unknown-flow"})]
    )
    answer = service.http.post("/v1/events", content=body)
    errors = answer.json()["errors"]
    assert (answer.status_code, answer.json()["accepted"], [e["line"] for e in errors]) == (207, 3, [2, 5])
    assert "tracker flows put unknown-flow.yaml" in errors[1]["reason"]
    assert "oops" in {row["raw"] for row in quarantine(service)}


def test_a_collector_that_reports_makes_its_silence_known(service, flow):
    """A source that announced itself and stopped reporting leaves messages blind, never falsely missing."""
    source = {"flow": flow, "hop": "billing", "stage": "ack", "source": "pod-7"}
    report = {"collector": "pod-7", "epoch": 1, "sequence": 1, "sources": [source]}
    assert service.http.post("/v1/coverage", json=report).status_code == 200
    service.send(way(flow, "m-1", now_us(), acked=False))
    got = service.until(
        lambda: service.get(f"/v1/flows/{flow}/messages/m-1"), lambda m: m["verdict"] not in ("in_flight",)
    )
    assert (got["verdict"], got["missing"][0]["covered"]) == ("blind", False)
    assert service.get("/v1/findings", flow=flow)["items"] == []
    rows = service.until(lambda: service.get("/v1/coverage", flow=flow)["items"], bool)
    assert (rows[0]["collector"], rows[0]["source"], rows[0]["closed"]) == ("pod-7", "pod-7", False)


def test_metrics_show_what_the_books_say(service, flow):
    """/metrics counts events by flow and messages by verdict, and the books agree."""
    service.send(many(flow, 10, now_us(), {4}))
    service.until(lambda: books(service, flow), lambda b: b["verdicts"].get("unacknowledged") == 1)
    wanted = {
        f'tracker_messages{{flow="{flow}",verdict="unacknowledged"}} 1.0',
        f'tracker_conservation_difference{{flow="{flow}"}} 0.0',  # counted aside, one after the other
        f'tracker_ingest_events_total{{flow="{flow}"}} 29.0',
        'tracker_thread_up{thread="reconcile"} 1.0',
        f'tracker_flow_info{{flow="{flow}",owner="team-payments",severity="page"}} 1.0',
    }
    service.until(lambda: service.http.get("/metrics").text, lambda text: wanted <= set(text.splitlines()))


def test_the_page_names_who_is_missing(service, flow):
    """The overview lists flows and missing messages with links that lead to them."""
    service.send(many(flow, 3, now_us(), {1}))
    link = f"/flows/{flow}/messages/m-1"
    page = service.until(lambda: service.http.get("/").text, lambda text: f'href="{link}"' in text)
    assert flow in page
    shown = service.http.get(link)
    assert (shown.status_code, "unacknowledged" in shown.text) == (200, True)
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert (
        service.http.get("/find", params={"flow": flow, "id": "m-1"}, follow_redirects=False).headers["location"]
        == link
    )


def test_a_replay_is_planned_and_nothing_is_sent(service, flow):
    """A dry run says what would be sent and what stands in the way; asked for in earnest, that is a conflict."""
    service.send(many(flow, 3, now_us(), {1}))
    service.until(lambda: service.get("/v1/findings", flow=flow)["items"], bool)
    planned = service.http.post("/v1/replays", json={"flow": flow, "dry_run": True})
    assert (planned.status_code, planned.json()["plan"]["messages"]) == (200, 0)
    assert "kafka-eu" in json.dumps(planned.json()["plan"]["refused"])
    assert service.http.post("/v1/replays", json={"flow": flow}).status_code == 409
    assert service.get("/v1/replays", flow=flow)["items"] == []


def test_the_command_line_is_a_client(service, flow, tmp_path):
    """Every command answers as JSON too, and ends with 0, 1 for findings, 2 for usage, 3 where nobody answers."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace("orders", flow))
    assert service.cli("flows", "put", str(spec)).returncode == 0
    assert flow in service.cli("flows", "list").stdout
    assert json.loads(service.cli("flows", "get", flow, "--json").stdout)["version"] == 1
    events = tmp_path / "events.ndjson"
    events.write_text("\n".join(json.dumps(e) for e in many(flow, 5, now_us(), {2})))
    sent = service.cli("events", "send", str(events), "--json")
    assert (sent.returncode, json.loads(sent.stdout)["accepted"]) == (0, 14)
    service.until(lambda: service.get("/v1/findings", flow=flow)["items"], bool)
    found = service.cli("reconcile", "--flow", flow, "--json")
    assert (found.returncode, json.loads(found.stdout)["verdicts"]["unacknowledged"]) == (1, 1)
    assert "m-2" in service.cli("findings", "--flow", flow).stdout
    shown = service.cli("messages", "show", flow, "m-2")
    assert (shown.returncode, "unacknowledged" in shown.stdout) == (0, True)
    assert service.cli("messages", "show", flow, "nobody").returncode == 2
    service.send([ack(flow, "m-2", now_us())])
    service.until(lambda: service.get("/v1/findings", flow=flow, status="open")["items"], lambda items: not items)
    assert service.cli("reconcile", "--flow", flow).returncode == 0
    gone = tracker("flows", "list", TRACKER_URL="http://127.0.0.1:1")
    assert (gone.returncode, "Traceback" in gone.stderr) == (3, False)


def test_every_quarantined_line_can_be_listed(service, flow):
    """Also more of one request, which were all received at one moment, than fit on a page."""
    bad = [{**next(iter(way(flow, f"q-{n}", now_us()))), "stage": "sent"} for n in range(1200)]
    assert service.send(bad)["quarantined"] == 1200
    listed = json.loads(service.cli("events", "quarantine", "--limit", "5000", "--json").stdout)
    mine = [row["line"] for row in listed if f'"{flow}"' in row["raw"]]
    assert (len(mine), len(set(mine))) == (1200, 1200)


def test_a_killed_tracker_has_what_it_answered(tmp_path):
    """After SIGKILL in the middle of everything, what was answered is there, is judged, and counts once."""
    service = Service(tmp_path, "--insecure").start()
    try:
        service.http.put("/v1/flows", content=SPEC).raise_for_status()
        events = many("orders", 200, now_us(), {7})
        assert service.send(events)["accepted"] == len(events)
        service.process.kill()
        service.start()
        service.send(events)
        got = service.until(lambda: books(service, "orders"), lambda b: b["verdicts"].get("unacknowledged") == 1)
        assert (got["verdicts"], got["conserved"]) == ({"delivered": 199, "unacknowledged": 1}, True)
    finally:
        service.close()


def test_tokens_are_asked_for_and_shown_once(tmp_path):
    """Without --insecure the first start shows an admin token; others are made with it at hand, and it ends quietly."""
    service = Service(tmp_path).start()
    try:
        token = re.search(r"mt_\w+_\S+", service.process.log.read_text())
        assert token
        assert service.http.get("/v1/flows").status_code == 401
        admin = {"Authorization": f"Bearer {token[0]}"}
        assert service.http.put("/v1/flows", content=SPEC, headers=admin).status_code == 201
        made = service.cli("token", "create", "collector", "--scope", "ingest", "--json")
        ingest = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}"}
        body = json.dumps(ack("orders", "m", now_us()))
        assert service.http.post("/v1/events", content=body, headers=ingest).status_code == 200
        assert service.http.get("/v1/flows", headers=ingest).status_code == 403
        assert service.cli("flows", "list").returncode == 2
        assert service.cli("flows", "list", token=token[0]).returncode == 0
        assert service.cli("token", "revoke", json.loads(made.stdout)["id"]).returncode == 0
        assert service.http.post("/v1/events", content=body, headers=ingest).status_code == 401
        service.process.stop()
        log = service.process.log.read_text()
        assert "stopped" in log
        assert token[0].rpartition("_")[2] not in log.partition(token[0])[2]
    finally:
        service.close()


def test_what_is_in_the_way_is_told_in_one_line(service, tmp_path):
    """A taken port, a held folder, a wrong URL, nobody's server, open doors: the thing is named, no traceback."""
    folder = service.settings["TRACKER_STORE"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = [
            (("--port", port), {"TRACKER_STORE": f"chdb://{tmp_path}/a"}, 3, port),
            (
                ("--port", "0"),
                {"TRACKER_STORE": folder, "TRACKER_CONTROL": f"sqlite:///{tmp_path}/b.db"},
                3,
                folder[7:],
            ),
            (("--port", "0"), {"TRACKER_STORE": "mysql://x"}, 2, "mysql"),
            (("--port", "0"), {"TRACKER_STORE": "clickhouse://127.0.0.1:1/x"}, 3, "127.0.0.1:1"),
            (("--port", "0", "--host", "0.0.0.0"), {"TRACKER_STORE": f"chdb://{tmp_path}/c"}, 2, "0.0.0.0"),
            (("--port", "0"), {"TRACKER_COMMIT_ROWS": "many"}, 2, "TRACKER_COMMIT_ROWS"),
            (("--port", "0"), {"TRACKER_HOPS": "/nowhere.yaml"}, 2, "/nowhere.yaml"),
        ]
        for options, settings, code, words in cases:
            ended = tracker("serve", "--insecure", *options, **{"TRACKER_STORE": f"chdb://{tmp_path}/d", **settings})
            assert ended.returncode == code, ended.stderr
            assert words in ended.stderr
            assert "Traceback" not in ended.stderr


def test_the_ledger_answers_sql(service, flow):
    """What was sent is counted at /clickhouse, as soon as a pass has judged it; and nothing is taken there."""
    service.send(way(flow, "m-1", now_us()))
    asked = {"default_format": "TSV", "param_flow": flow}

    def verdicts():
        statement = "SELECT verdict FROM messages WHERE flow = {flow:String}"
        return service.http.post("/clickhouse", params=asked, content=statement).raise_for_status().text

    service.until(verdicts, lambda text: text == "delivered\n")
    refused = service.http.post("/clickhouse", content="TRUNCATE TABLE tracker.states")
    assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (403, "620")
