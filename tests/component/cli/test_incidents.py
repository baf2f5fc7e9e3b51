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
