"""Sending copies in batches, in a bounded time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from collectors.batches import Tried, in_batches
from tracker.model.carry import Copy, Locator, Sent

COPIES = [Copy(Locator(f"m-{number}", "nats-eu", "ORDERS", number), None, b"x", {}, "") for number in range(7)]


def test_every_copy_has_its_answer_in_order() -> None:
    """In batches of three; an error of one copy stops nobody else."""
    sizes: list[int] = []

    def attempt(copies: Sequence[Copy], _: float) -> Tried:
        sizes.append(len(copies))
        return ["refused" if copy is COPIES[4] else "" for copy in copies], ""

    answers = in_batches(COPIES, 3, 10, "there", attempt)
    assert sizes == [3, 3, 1]
    assert answers == [Sent(copy.locator, "refused" if copy is COPIES[4] else "") for copy in COPIES]


def test_nothing_is_tried_behind_a_reason_not_to() -> None:
    """Of the second batch one was tried: the reason stands at all others."""
    said: list[Tried] = [(["", "", ""], ""), (["in doubt"], "not sent: away")]
    answers = in_batches(COPIES, 3, 10, "there", lambda *_: said.pop(0))
    assert [answer.error for answer in answers] == ["", "", "", "in doubt", *["not sent: away"] * 3]
    assert [answer.untried for answer in answers] == [*[False] * 4, *[True] * 3]


def test_nothing_is_tried_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of 6 s each in 10 s: the third is not tried, and says so."""
    now = [100.0]
    ends: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def attempt(copies: Sequence[Copy], until: float) -> Tried:
        ends.append(until)
        now[0] += 6
        return [""] * len(copies), ""

    answers = in_batches(COPIES, 3, 10, "there", attempt)
    assert ends == [110.0, 110.0]
    assert [answer.untried for answer in answers] == [*[False] * 6, True]
    assert answers[-1].error == "not sent: there: the time of 10 s for this batch is over"
