"""Lines that could not be used, and what becomes of them once the cause is mended, at a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Service, now_us
from tests.e2e.test_service import SPEC


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running service that knows no flow."""
    running = Service(tmp_path, "--insecure").start()
    yield running
    running.close()


def event(message_id: str, hop: str, stage: str, **more: Any) -> dict[str, Any]:
    """An event of the flow."""
    at = now_us()
    return {"flow": "orders", "message_id": message_id, "hop": hop, "stage": stage, "observed_at": at, **more}


def whole(message_id: str) -> list[dict[str, Any]]:
    """The events of a message that arrived."""
    placed = {"partition": "orders/0", "offset": 1}
    return [
        event(message_id, "checkout", "produce"),
        event(message_id, "kafka-eu", "persist", **placed),
        event(message_id, "billing", "ack", delivery="d"),
    ]


def listed(service: Service, *options: str) -> list[dict[str, Any]]:
    """What the command shows."""
    rows: list[dict[str, Any]] = json.loads(service.cli("events", "quarantine", "--json", *options).stdout)
    return rows


def test_what_was_mended_is_taken_and_listed_no_more(service: Service) -> None:
    """Events came before their flow was put: sent again they are judged like any others, and leave the quarantine. What
    is still bad, or was cut, stays there, once, and is said to be so."""
    long = json.dumps(event("cut", "checkout", "produce", attributes={"text": "x" * 5000}))
    wrong = json.dumps(event("wrong", "checkout", "sent"))
    lines = [*map(json.dumps, whole("m-1")), wrong, long, "oops"]
    assert service.http.post("/v1/events", content="\n".join(lines)).json()["quarantined"] == 6
    service.http.put("/v1/flows", content=SPEC).raise_for_status().raise_for_status()

    tried = service.cli("events", "resubmit", "--flow", "orders", "--dry-run", "--json")
    told = json.loads(tried.stdout)
    assert (tried.returncode, told["accepted"], len(told["refused"])) == (1, 3, 2)
    assert len(listed(service)) == 6

    done = service.cli("events", "resubmit", "--flow", "orders", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["accepted"]) == (1, 3)
    [entry] = service.get("/v1/audit", subject="quarantine")["items"]
    assert (entry["what"], entry["detail"]["flow"], entry["detail"]["lines"]) == ("resubmit", "orders", 3)
    reasons = {row["field"] or "cut": row["reason"] for row in told["refused"]}
    assert set(reasons) == {"stage", "cut"}
    assert "only its first 4096 bytes were kept" in reasons["cut"]
    message = service.until(
        lambda: service.http.get("/v1/flows/orders/messages/m-1").json(),
        lambda found: found.get("verdict") == "delivered",
    )
    assert len(message["timeline"]) == 3
    assert [row["line"] for row in listed(service)] == [4, 5, 6]
    assert [row["line"] for row in listed(service, "--flow", "orders")] == [4, 5]
    assert json.loads(service.cli("events", "resubmit", "--json").stdout)["accepted"] == 0
    assert len(listed(service)) == 3


def test_lines_are_chosen_by_flow_sender_and_time(service: Service) -> None:
    """Only what was chosen is sent; there may be more of it than one call takes."""
    body = "\n".join(json.dumps(event(f"m-{n}", "checkout", "produce")) for n in range(2100))
    service.http.post("/v1/events", content=body).raise_for_status()
    service.http.put("/v1/flows", content=SPEC).raise_for_status().raise_for_status()
    for options in (("--flow", "other"), ("--source", "nobody"), ("--until", "-1h"), ("--since", "now")):
        answer = service.cli("events", "resubmit", "--json", *options)
        assert (answer.returncode, json.loads(answer.stdout)["accepted"]) == (0, 0), options
        assert listed(service, *options) == []
    answer = service.cli("events", "resubmit", "--source", "local", "--since", "-1h", "--json")
    assert (answer.returncode, json.loads(answer.stdout)) == (0, {"accepted": 2100, "refused": [], "dry_run": False})
    assert listed(service) == []


ASKING = (
    SPEC
    + """schema:
  - {attributes: tenant, at: checkout}
  - {digest: true, max_size: 1 KiB, at: [checkout, billing]}
"""
)


def test_what_a_flow_asks_and_what_becomes_of_it_when_it_asks_less(service: Service) -> None:
    """Events without what the schema wants are refused by name, and are events like any other once the spec is put
    without it; nothing is called missing for them before, for their batch vouches for nothing."""
    service.http.put("/v1/flows", content=ASKING).raise_for_status().raise_for_status()
    produced, persisted, acked = whole("m-1")
    header = {"collector": "c", "epoch": 1, "sequence": 1, "events": 3, "sources": [
        {"flow": "orders", "hop": hop, "stage": stage, "source": "s"}
        for hop, stage in (("checkout", "produce"), ("kafka-eu", "persist"), ("billing", "ack"))]}  # fmt: skip
    lines = [produced | {"digest": "00000000000000ff"}, persisted, acked | {"digest": "00000000000000ff", "size": 1025}]
    answer = service.http.post("/v1/events", content="\n".join(map(json.dumps, [*lines, acked])),
                               headers={"Tracker-Coverage": json.dumps(header)})  # fmt: skip
    assert (answer.status_code, answer.json()["accepted"], answer.json()["quarantined"]) == (207, 1, 3)
    assert [(row["line"], row["field"]) for row in listed(service)] == [(1, "attributes"), (3, "size"), (4, "digest")]
    [row] = listed(service, "--field", "size")
    assert row["reason"].startswith("1025 bytes are too many, at most 1024 are allowed: the schema of flow orders")
    assert json.loads(service.cli("events", "resubmit", "--field", "digest", "--json").stdout)["accepted"] == 0

    service.http.put(
        "/v1/flows", content=ASKING.replace("tenant, at: checkout", "tenant, at: 'kafka-eu:drop'")
    ).raise_for_status()
    done = service.cli("events", "resubmit", "--flow", "orders", "--field", "attributes", "--json")
    assert (done.returncode, json.loads(done.stdout)["accepted"]) == (0, 1)
    service.http.put("/v1/flows", content=SPEC).raise_for_status().raise_for_status()
    assert json.loads(service.cli("events", "resubmit", "--json").stdout)["accepted"] == 2
    message = service.until(
        lambda: service.http.get("/v1/flows/orders/messages/m-1").json(),
        lambda found: found.get("verdict") == "delivered",
    )
    assert {one["hop"] for one in message["timeline"]} == {"checkout", "kafka-eu", "billing"}
    assert service.http.get("/v1/findings?flow=orders").json()["items"] == []
    assert listed(service) == []


def test_only_an_admin_sends_lines_again(tmp_path: Path) -> None:
    """They are events in somebody else's name."""
    service = Service(tmp_path).start()
    try:
        text = service.process.log.read_text()
        admin = text[text.index("mt_") :].split()[0]
        made = service.cli("token", "create", "c", "--scope", "ingest", "--scope", "read", "--json")
        token = json.loads(made.stdout)["token"]
        for who, status in ((token, 403), (admin, 200)):
            headers = {"Authorization": f"Bearer {who}"}
            assert service.http.post("/v1/quarantine/resubmit", json={}, headers=headers).status_code == status
    finally:
        service.close()
