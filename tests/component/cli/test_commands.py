import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tracker.cli import main as cli

SPEC = "flow: orders\ncheckpoints:\n  - {hop: a, stage: produce}\n  - {hop: b, stage: ack, after: a, within: 5s}\n"


class Answers:
    """An HTTP server that answers every request as told, and remembers what was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, "{}"
        self.asked: list[tuple[str, str, bytes, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                outer.asked.append((self.command, self.path, self.rfile.read(length), dict(self.headers)))
                sent = outer.body.encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def answers(monkeypatch):
    """A service that answers as told."""
    made = Answers()
    monkeypatch.setenv("TRACKER_URL", made.url)
    monkeypatch.setenv("TRACKER_TOKEN", "mt_a_b")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command; gives its exit code, stdout and stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tracker", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def page(*items):
    """A list's answer."""
    return json.dumps({"items": items, "next": None})


def test_validate_needs_no_service(run, tmp_path):
    """A good spec is told with its checkpoints; a bad one with file, line and reason, and ends with 2."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(SPEC)
    bad.write_text(SPEC.replace("after: a", "after: z"))
    code, out, _ = run("flows", "validate", str(good))
    assert (code, "orders: valid" in out, "b:ack" in out, "HAVE TO BRING" in out) == (0, True, True, False)
    good.write_text(SPEC + "schema: {attributes: tenant, digest: true, max_size: 1 MiB, at: b}\n")
    code, out, _ = run("flows", "validate", str(good))
    assert (code, "HAVE TO BRING" in out, "b:ack" in out, "attribute tenant, a digest, at most 1 MiB" in out) == (
        0,
        True,
        True,
        True,
    )
    code, _, err = run("flows", "validate", str(bad))
    assert (code, f"{bad}:4:" in err) == (2, True)
    code, _, err = run("flows", "validate", str(tmp_path / "none.yaml"))
    assert (code, "No such file" in err) == (2, True)


def test_a_token_goes_along_and_writes_carry_a_key(run, answers, tmp_path):
    """Every request is authorized; a write has an idempotency key of its own."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    answers.body = json.dumps({"flow": "orders", "version": 3})
    code, out, _ = run("flows", "put", str(spec))
    [(method, path, body, headers)] = answers.asked
    assert (code, out.strip()) == (0, "flow orders: version 3 in force")
    assert (method, path, body.decode()) == ("PUT", "/v1/flows/orders", SPEC)
    assert (headers["Authorization"], len(headers["Idempotency-Key"])) == ("Bearer mt_a_b", 36)


@pytest.mark.parametrize(
    ("status", "code"), [(401, 2), (403, 2), (404, 2), (409, 2), (422, 2), (429, 3), (500, 3), (503, 3)]
)
def test_problems_end_with_their_code_and_detail(run, answers, status, code):
    """What the caller can mend is 2, what has to come back by itself is 3; the detail is told in one line."""
    answers.status, answers.body = status, json.dumps({"detail": "no such thing"})
    ended, _, err = run("flows", "get", "orders")
    assert (ended, "no such thing" in err, "Traceback" in err) == (code, True, False)


def test_another_server_is_recognized(run, answers):
    """An answer that is no tracker's asks whether the address is right."""
    answers.status, answers.body = 404, "<html>nginx</html>"
    code, _, err = run("flows", "get", "orders")
    assert (code, "TRACKER_URL" in err) == (2, True)


def test_nobody_there_is_3(run, monkeypatch):
    """A connection that is refused names the address and what to look at."""
    monkeypatch.setenv("TRACKER_URL", "http://127.0.0.1:1")
    code, _, err = run("findings")
    assert (code, "http://127.0.0.1:1" in err, "tracker serve" in err) == (3, True, True)


@pytest.mark.parametrize(
    ("verdicts", "conserved", "code"),
    [
        ({"delivered": 9, "late": 1, "explained": 1, "in_flight": 3}, True, 0),
        ({"delivered": 9, "lost": 1}, True, 1),
        ({"blind": 1}, True, 1),
        ({"delivered": 9}, False, 1),
    ],
)
def test_reconcile_ends_with_1_when_somebody_should_look(run, answers, verdicts, conserved, code):
    """Missing, wrong or unknown messages and books that differ are findings; late and explained ones are none."""
    books = {"flow": "orders", "produced": 10, "orphans": 0, "verdicts": verdicts, "conserved": conserved,
             "as_of": "2026-01-01T00:00:00.000000Z", "blind_spots": [], "windows": []}  # fmt: skip
    answers.body = json.dumps(books)
    ended, out, _ = run("reconcile", "--flow", "orders", "--from", "-2h", "--json")
    assert (ended, json.loads(out)) == (code, books)
    assert answers.asked[0][1].startswith("/v1/flows/orders/reconciliation?from=-2h&to=now")
    assert run("reconcile", "--flow", "orders")[0] == code
    assert run("reconcile")[0] == 2
    assert "more blind spots" not in run("reconcile", "--flow", "orders")[1]
    answers.body = json.dumps(books | {"spots_left": 7})
    assert "and 7 more blind spots" in run("reconcile", "--flow", "orders")[1]


def test_pages_are_followed_to_the_limit(run, answers):
    """A list asks for page after page until it has enough."""
    answers.body = json.dumps({"items": [{"finding_id": "f"}] * 2, "next": "c"})
    code, out, _ = run("findings", "--limit", "4", "--json")
    assert (code, len(json.loads(out))) == (0, 4)
    assert ["cursor=c" in path for _, path, _, _ in answers.asked] == [False, True]


def test_a_replay_is_a_dry_run_unless_asked_in_earnest(run, answers):
    """`tracker replay FLOW` plans; only --yes asks for it."""
    answers.body = json.dumps({"dry_run": True, "plan": {"messages": 3}})
    code, out, _ = run("replay", "orders", "--incident", "i-1")
    assert (code, "nothing was sent" in out) == (0, True)
    assert json.loads(answers.asked[0][2])["dry_run"] is True
    answers.body = json.dumps({"id": "r-1", "status": "awaiting_approval", "plan": {"messages": 3}})
    code, out, _ = run("replay", "orders", "--incident", "i-1", "--yes")
    assert (code, "tracker replay approve r-1" in out) == (0, True)
    assert json.loads(answers.asked[1][2])["dry_run"] is False


def test_sending_a_large_file_in_parts_keeps_line_numbers(run, answers, tmp_path, monkeypatch):
    """Lines of errors are those of the file, not of the part that was sent."""
    monkeypatch.setattr("tracker.cli.events.LINES", 2)
    file = tmp_path / "events.ndjson"
    file.write_bytes(b"{}\n" * 3)
    error = {"line": 1, "field": "flow", "reason": "x"}
    answers.body = json.dumps({"accepted": 1, "quarantined": 1, "errors": [error]})
    code, out, _ = run("events", "send", str(file), "--json")
    told = json.loads(out[out.index("{") :])
    assert (code, told["accepted"], [e["line"] for e in told["errors"]]) == (1, 2, [1, 3])


def test_what_comes_from_outside_is_no_markup(run, answers):
    """Brackets in an id or a reason are shown as they are."""
    answers.body = page({"message_id": "[bold]x[/bold]", "flow": "f", "why": "[red]"})
    _, out, _ = run("findings")
    assert "[bold]x[/bold]" in out


def test_usage_errors_are_2(run):
    """An unknown command or option is usage."""
    assert run("nonsense")[0] == 2
    assert run("findings", "--nonsense")[0] == 2
    assert run("serve", "--insecure", "--host", "0.0.0.0")[0] == 2


def test_who_approves_a_replay_sees_what(run, answers):
    """Its status names who asked, why, and the plan; once it was approved it says how far it came."""
    plan = {"messages": 137, "targets": ["kafka-eu"], "refused": {}}
    waits = {"id": "r-1", "status": "awaiting_approval", "detail": "the flow's mode is `approve`", "messages": {},
             "requested_by": "ann", "reason": "skipped", "plan": plan}  # fmt: skip
    answers.body = json.dumps(waits)
    code, out, _ = run("replay", "status", "r-1")
    assert code == 0
    assert "ann asked for it: skipped" in out
    assert all(word in out for word in ("137", "kafka-eu"))
    answers.body = json.dumps(waits | {"status": "running", "messages": {"sent": 3}})
    assert "137" not in run("replay", "status", "r-1")[1]
