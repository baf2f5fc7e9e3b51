"""`tracker anomalies`: what is not as usual."""

import json

from tests.component.cli.test_commands import answers, run

__all__ = ["answers", "run"]

ITEM = {"flow": "orders", "hop": "billing", "stage": "ack", "signal": "latency", "direction": "high",
        "since": "2026-11-21T00:00:00.000000Z", "until": None, "ended_by": "", "unit": "seconds", "expected": 0.2004,
        "came": 0.9512, "baseline": "hour_of_week"}  # fmt: skip


def test_they_are_listed_with_what_was_expected_and_came(run, answers):
    """Narrowed by what is asked for; --json as the service answered."""
    answers.body = json.dumps({"items": [ITEM], "next": None})
    code, out, _ = run("anomalies", "--flow", "orders", "--hop", "billing", "--signal", "latency", "--open")
    assert code == 0
    assert [part for part in ("0.2", "0.951", "hour_of_week", "billing") if part not in out] == []
    path = answers.asked[0][1]
    assert [one for one in ("flow=orders", "hop=billing", "signal=latency", "open=true") if one not in path] == []
    run("anomalies", "--over", "--json")
    assert "open=false" in answers.asked[1][1]
    assert json.loads(run("anomalies", "--json")[1]) == [ITEM]
    assert "open=" not in answers.asked[2][1]


def test_none_is_said(run, answers):
    """In words."""
    answers.body = json.dumps({"items": [], "next": None})
    assert "nothing is unusual" in run("anomalies")[1]
