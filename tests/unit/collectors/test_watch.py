"""What canaries prove."""

from __future__ import annotations

from collectors.watch import Mark, Watch, mark_of


def proven(hole_for: float = 0.0) -> tuple[Watch, list[Mark]]:
    """A watch that has shown its first break and sent five canaries, one a second from 10 on."""
    watch = Watch("me", 0.0, hole_for)
    assert not watch.vouches(9.0)
    return watch, [watch.sent(10.0 + n, 1_000_000 * n) for n in range(5)]


def back(watch: Watch, mark: Mark, now: float) -> None:
    """A canary comes by as it does with the firehose on."""
    watch.traced(mark)
    watch.arrived(mark, now)


def test_nothing_is_known_before_the_first_canary_is_back() -> None:
    """No proof, no source, no lag."""
    watch, marks = proven()
    assert (watch.state, watch.vouches(11.0), watch.behind(11.0)) == ("unknown", False, None)
    back(watch, marks[0], 11.0)
    assert (watch.state, watch.vouches(11.0)) == ("on", True)


def test_the_lag_counts_from_when_the_canary_was_sent() -> None:
    """Not from when it was read: what was published in between may still be unread."""
    watch, marks = proven()
    back(watch, marks[0], 14.0)
    assert watch.behind(14.5) == 4.5
    back(watch, marks[1], 14.6)
    assert watch.behind(15.0) == 4.0


def test_a_canary_that_was_not_traced_says_that_the_firehose_is_off() -> None:
    """And those already under way prove nothing; only one sent after it does."""
    watch, marks = proven()
    back(watch, marks[0], 11.0)
    watch.arrived(marks[1], 12.0)
    assert (watch.state, watch.vouches(12.0)) == ("off", False)
    back(watch, marks[2], 12.1)
    assert watch.state == "off"
    back(watch, watch.sent(13.0, 0), 13.5)
    assert (watch.state, watch.vouches(13.5)) == ("on", True)


def test_a_lost_canary_is_a_break() -> None:
    """A full trace queue gives up its oldest records: with a canary among them, traces are gone too."""
    watch, marks = proven(hole_for=3.0)
    back(watch, marks[0], 11.0)
    back(watch, marks[2], 13.0)
    assert watch.state == "on"
    assert [watch.vouches(now) for now in (13.0, 15.9, 16.0)] == [False, False, True]


def test_a_break_is_shown_at_least_once() -> None:
    """However quickly it is mended, and however late somebody looks."""
    watch, marks = proven()
    back(watch, marks[0], 11.0)
    assert watch.vouches(11.0)
    watch.broken(12.0)
    back(watch, watch.sent(12.0, 0), 12.1)
    assert [watch.vouches(50.0), watch.vouches(50.1)] == [False, True]


def test_canaries_of_others_only_tell_the_time() -> None:
    """An earlier life's or a stand-by's canary is no proof for this one."""
    watch, _ = proven()
    back(watch, Mark("someone", 1, 77), 11.0)
    assert (watch.marker, watch.state) == (77, "unknown")
    back(watch, Mark("someone", 1, 50), 11.0)
    assert watch.marker == 77


def test_anything_may_be_published_to_the_canary_exchange() -> None:
    """What is no canary is told from one."""
    assert mark_of(b'{"token":"a","sequence":1,"sent_at":2}') == Mark("a", 1, 2)
    assert [mark_of(body) for body in (b"", b"{}", b"\xff", b'{"token":1}')] == [None] * 4


def test_where_nothing_is_traced_the_canary_alone_counts() -> None:
    """A queue of dead letters gets no traces."""
    watch = Watch("me", 0.0, 0.0, traces=False)
    assert not watch.vouches(9.0)
    watch.arrived(watch.sent(10.0, 0), 11.0)
    assert watch.vouches(11.0)


def test_a_life_that_goes_on_begins_without_a_break() -> None:
    """And knows since when the earlier one had read everything."""
    watch = Watch("me", 0.0, 3.0)
    watch.goes_on(0.5, 77)
    back(watch, watch.sent(0.6, 0), 0.7)
    assert (watch.vouches(0.7), watch.marker) == (True, 77)


def test_a_pause_is_no_break_and_takes_none_back() -> None:
    """Canaries under way prove nothing after it; a break before it is still shown, to its end."""
    watch, marks = proven(hole_for=3.0)
    back(watch, marks[0], 11.0)
    watch.paused()
    back(watch, marks[1], 11.5)
    assert (watch.state, watch.vouches(11.5)) == ("unknown", False)
    back(watch, watch.sent(20.5, 0), 21.0)
    assert watch.vouches(21.0)
    watch.broken(31.0)
    watch.paused()
    back(watch, watch.sent(31.0, 0), 31.5)
    assert [watch.vouches(now) for now in (31.5, 32.5, 34.0)] == [False, False, True]


def test_what_is_read_long_after_the_last_proof_is_an_interval() -> None:
    """From the last canary before it on; nothing when it was just now."""
    watch, marks = proven()
    assert watch.since(10.5, 1.0) == 0
    back(watch, marks[1], 11.2)
    assert [watch.since(now, 1.0) for now in (11.5, 12.5)] == [None, 1_000_000]
