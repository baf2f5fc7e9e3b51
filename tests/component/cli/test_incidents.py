"""`tracker incidents`: who has it, and what is told of it."""

import json

import pytest

from tests.component.cli.test_commands import answers, run

__all__ = ["answers", "run"]

SHOWN = {"id": "i-1", "status": "acknowledged", "owner": "ann"}


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (("ack", "i-1"), {"acknowledge": True}),
        (("ack", "i-1", "--owner", "ann"), {"acknowledge": True, "owner": "ann"}),
        (("assign", "i-1", "ann"), {"owner": "ann"}),
        (("note", "i-1", "disk full"), {"note": "disk full"}),
    ],
)
def test_what_a_person_says_is_one_change(run, answers, arguments, change):
    """Only what was said is sent; the rest stays as it is."""
    answers.body = json.dumps(SHOWN)
    code, out, _ = run("incidents", *arguments)
    method, path, body, _ = answers.asked[0]
    assert (code, method, path, json.loads(body)) == (0, "PATCH", "/v1/incidents/i-1", change)
    assert out.startswith("i-1: ")


def test_a_postmortem_is_printed_or_written(run, answers, tmp_path):
    """As the service answered it, byte for byte; --json for machines."""
    answers.body = "# Incident `i-1`\n\n[bold]`x`[/bold]\n"
    code, out, _ = run("incidents", "postmortem", "i-1")
    assert (code, out, answers.asked[0][1]) == (0, answers.body, "/v1/incidents/i-1/postmortem")
    file = tmp_path / "i-1.md"
    code, out, _ = run("incidents", "postmortem", "i-1", "--out", str(file))
    assert (code, file.read_text(), str(file) in out) == (0, answers.body, True)
    assert json.loads(run("incidents", "postmortem", "i-1", "--json")[1])["markdown"] == answers.body
    assert run("incidents", "postmortem", "i-1", "--out", str(tmp_path / "none" / "x"))[0] == 2


TIMES: dict[str, object] = {
    **dict.fromkeys(("incidents", "findings", "open", "recovered", "parked", "abandoned", "lost"), 3),
    **{name: {"p50_s": None, "p90_s": None} for name in ("detect", "act", "recover", "back", "recover_by_itself")},
    "recovered_by_replay": 2, "recovered_by_itself": 0, "recover_by_replay": {"p50_s": 0.31, "p90_s": 4000.0},
}  # fmt: skip


def test_times_are_shown_by_kind_or_step_by_step(run, answers):
    """Spans as people say them; the objective of each flow below; what is asked for goes to the service."""
    said = {"percentile": "p90", "target_s": 900.0, "stands_s": None, "met": False}
    kept = {"percentile": "p50", "target_s": 90.0, "stands_s": 62.0, "met": True}
    answers.body = json.dumps({
        "items": [{"flow": "orders", "kind": "lost", **TIMES}],
        "flows": [{"flow": "orders", "objectives": [said, kept]}],
        "trend": [{"start": "2026-11-21T00:00:00.000000Z", **TIMES}],
    })  # fmt: skip
    code, out, _ = run("incidents", "times", "--flow", "orders", "--kind", "lost", "--from", "-7d", "--step", "1h")
    assert code == 0
    assert "0.31s / 1h6m" in out
    assert "orders: p90 promised within 15m0s, it is never: missed" in out
    assert "orders: p50 promised within 1m30s, it is 1m2s: kept" in out
    path = answers.asked[0][1]
    assert [one for one in ("flow=orders", "kind=lost", "from=-7d", "to=now", "step=1h") if one not in path] == []
    code, out, _ = run("incidents", "times", "--trend")
    assert (code, "2026-11-21 00:00:00" in out, "promised" in out) == (0, True, False)
    assert json.loads(run("incidents", "times", "--json")[1]) == json.loads(answers.body)


def test_loss_is_counted_and_named(run, answers):
    """All pages, up to the limit."""
    item = {"message_id": "m-13", "kind": "lost", "hop": "log", "status": "open", "copy": "none",
            "opened_at": "2026-11-21T00:00:00.000000Z"}  # fmt: skip
    body = {"lost": 2, "parked": 1, "abandoned": 0, "gone": 1, "unknown": 0, "retrievable": 4, "items": [item]}
    answers.body = json.dumps(body | {"next": "c"})
    code, out, _ = run("incidents", "loss", "i-1", "--limit", "2")
    assert code == 0
    assert "2 lost for good (1 parked, 0 abandoned, 1 gone); 4 open that a source still holds" in out
    assert out.count("m-13") == 2
    assert [path for _, path, *_ in answers.asked] == [
        "/v1/incidents/i-1/loss?limit=2", "/v1/incidents/i-1/loss?cursor=c&limit=1",
    ]  # fmt: skip


@pytest.mark.parametrize(("command", "status"), [("park", "parked"), ("abandon", "abandoned"), ("reopen", "open")])
def test_a_ruling_has_a_reason(run, answers, command, status):
    """On all findings, or on those of some messages."""
    answers.body = json.dumps({"incident": "i-1", "status": status, "findings": 3})
    code, out, _ = run("incidents", command, "i-1", "--reason", "poison", "--message", "a", "--message", "b")
    method, path, body, _ = answers.asked[0]
    said = {"status": status, "reason": "poison", "message_ids": ["a", "b"]}
    assert (code, method, path, json.loads(body)) == (0, "POST", "/v1/incidents/i-1/findings", said)
    assert out == f"i-1: 3 findings become {status} with the next pass\n"
    assert run("incidents", command, "i-1")[0] == 2
