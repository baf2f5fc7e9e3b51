from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.carried import carried, digest_of, new_message_id, number, text, trace_of
from collectors.instrument.observe import Observer, log_delivery, process_name, stamped
from collectors.spool import REFUSED
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT, REPLAY_ATTEMPT, REPLAY_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage


class Kept:
    """Takes observations into a list; raises what it is told to."""

    def __init__(self, error=None):
        self.events, self.sources, self.ended, self.error = [], [], [], error
        self.refuses, self.missed = False, 0

    def emit_line(self, line):
        """Keep, or fail."""
        if self.error:
            raise self.error
        if self.refuses:
            return REFUSED
        assert line.endswith(b"}\n")
        self.events.append(msgspec.json.decode(line, type=Event))
        return len(self.events)

    def lost(self, count=1):
        """Count."""
        self.missed += count

    def vouch(self, sources, lag=None, at=None):
        """Keep."""
        self.sources += sources

    def sign_off(self, sources):
        """Keep, or fail."""
        if self.error:
            raise self.error
        self.ended += sources


HEADERS = {
    MESSAGE_ID: b"m-1",
    ORIGIN_AT: b"1795218054119561",
    "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


def test_an_event_says_what_headers_and_payload_say():
    """Id, origin, trace, digest and size come from the message; delivery from the place in the log and the session."""
    kept = Kept()
    observer = Observer(kept, "orders", "billing", node="pod-7", clock=lambda: 5)
    taken = observer.ack(HEADERS, b"payload", partition="t/3", offset=7, group="g", session="s-1", key=b"k")
    (event,) = kept.events
    assert taken
    assert (event.flow, event.message_id, event.hop, event.stage) == ("orders", "m-1", "billing", Stage.ack)
    assert (event.observed_at, event.origin_at, event.node) == (5, 1795218054119561, "pod-7")
    assert event.delivery == "t/3:7:g:s-1" == log_delivery("t/3", 7, "g", "s-1")
    assert (event.digest, event.size, event.key) == (digest_of(b"payload"), 7, "k")
    assert event.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert event.span_id == "00f067aa0ba902b7"


@pytest.mark.parametrize("headers", [HEADERS, list(HEADERS.items()), {k: v.decode() for k, v in HEADERS.items()}])
def test_headers_come_in_any_shape(headers):
    """A mapping or pairs, bytes or text: the same event."""
    kept = Kept()
    Observer(kept, "orders", "billing", clock=lambda: 5).deliver(headers, b"x")
    assert kept.events[0].message_id == "m-1"
    assert kept.events[0].origin_at == 1795218054119561


def test_a_replay_is_told_by_its_header():
    """Replay id and attempt are carried into the event."""
    kept = Kept()
    observer = Observer(kept, "orders", "billing")
    observer.deliver({**HEADERS, REPLAY_ID: b"r-1", REPLAY_ATTEMPT: b"2"}, b"x")
    assert (kept.events[0].replay_id, kept.events[0].attempt) == ("r-1", 2)


def test_each_method_is_its_stage():
    """produce, deliver, ack, nack, dead_letter and drop, the last two with their reason."""
    kept = Kept()
    observer = Observer(kept, "orders", "billing")
    observer.produce(HEADERS, b"x")
    observer.deliver(HEADERS, b"x")
    observer.ack(HEADERS, b"x")
    observer.nack(HEADERS, b"x")
    observer.dead_letter(HEADERS, b"x", "poison")
    observer.drop(HEADERS, b"x", "filtered")
    assert [(e.stage.value, e.reason) for e in kept.events] == [
        ("produce", ""),
        ("deliver", ""),
        ("ack", ""),
        ("nack", ""),
        ("dead_letter", "poison"),
        ("drop", "filtered"),
    ]


def test_sources_are_announced_and_signed_off():
    """One source per stage that the client vouches for, named after the process unless told otherwise."""
    kept = Kept()
    observer = Observer(kept, "orders", "billing", stages=(Stage.deliver, Stage.ack))
    expected = [SourceRef("orders", "billing", stage, process_name()) for stage in ("deliver", "ack")]
    assert kept.sources == expected
    observer.close()
    observer.close()
    assert kept.ended == expected


def test_a_failure_never_reaches_the_application(caplog):
    """Whatever the emitter raises: counted, logged once, and the application goes on."""
    observer = Observer(Kept(RuntimeError("no room")), "orders", "billing", stages=(Stage.ack,))
    assert not observer.ack(HEADERS, b"x")
    assert not observer.ack(HEADERS, b"x")
    observer.close()
    assert observer.counts.errors == 3
    assert caplog.text.count("no room") == 1


def test_the_applications_log_handlers_may_raise():
    """What is told to its log is told by its own handlers: an error of theirs does not come back through us."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("no log today")

    log, broken = logging.getLogger("collectors.instrument"), Broken()
    log.addHandler(broken)
    try:
        observer = Observer(Kept(RuntimeError("no room")), "orders", "billing")
        assert not observer.ack(HEADERS, b"x")
        assert not Observer(Kept(), "orders", "billing").ack({}, b"x")
    finally:
        log.removeHandler(broken)
    assert observer.counts.errors == 1


def test_what_is_interrupted_is_declared():
    """A signal's handler may raise in the middle of it: the application gets that, and nobody vouches for the event."""
    kept = Kept(KeyboardInterrupt())
    observer = Observer(kept, "orders", "billing")
    with pytest.raises(KeyboardInterrupt):
        observer.ack(HEADERS, b"x")
    assert (kept.missed, observer.counts.events) == (1, 0)


@pytest.mark.parametrize("headers", [None, {}, [], 5, {MESSAGE_ID: None}, {MESSAGE_ID: b""}])
def test_a_message_without_an_id_is_counted(headers):
    """It cannot be tracked, and that does not go unnoticed; odd headers raise nothing."""
    kept = Kept()
    observer = Observer(kept, "orders", "billing")
    assert not observer.ack(headers, b"x")
    assert kept.events == []
    assert observer.counts.unnamed + observer.counts.errors == 1


def test_what_is_absent_is_stamped():
    """Message id and origin are added where absent, and what is there stays."""
    fresh = stamped(None, clock=lambda: 1795218054119561)
    assert fresh[ORIGIN_AT] == b"1795218054119561"
    assert len(fresh[MESSAGE_ID]) == 36
    given = {MESSAGE_ID: b"mine", ORIGIN_AT: b"1", "other": b"x"}
    assert stamped(given) == given
    assert stamped([("other", b"x")], "x-id", clock=lambda: 1)["other"] == b"x"
    assert "x-id" in stamped([("other", b"x")], "x-id")


def test_a_new_id_is_a_uuid_of_version_7():
    """The first 48 bits are the milliseconds, version and variant are set, and two are never the same."""
    at = 1795218054119561
    one, two = new_message_id(at), new_message_id(at)
    assert int(one.replace("-", "")[:12], 16) == at // 1000
    assert one[14] == "7"
    assert one[19] in "89ab"
    assert one != two


@pytest.mark.parametrize(
    ("value", "found"),
    [(b"12", 12), ("12", 12), (12, 12), (b"", None), (b"-1", None), (None, None), (b"\xff", None), ("9" * 19, None),
     ("1" * 400, None), ("²", None)],
)  # fmt: skip
def test_numbers_in_headers(value, found):
    """A header value is a number or it is none; nothing raises."""
    assert number(value) == found


@given(st.one_of(st.none(), st.binary(max_size=30), st.from_regex(rb"[0-9]{1,22}", fullmatch=True)), st.binary())
def test_the_short_way_reads_what_the_long_way_reads(origin, name):
    """Most messages carry no more than an id and an origin, and are read without a look at the rest."""
    headers = {MESSAGE_ID: name, ORIGIN_AT: origin}
    short, long = carried(headers), carried({**headers, "traceparent": b""})
    assert short == long
    assert short.message_id == text(bytearray(name))
    assert short.origin_at == number(None if origin is None else origin.decode("latin-1"))


def test_traceparent_that_is_none():
    """What does not have the shape of a traceparent gives no ids."""
    assert trace_of("00-abc-def-01") == ("", "")
    assert trace_of("") == ("", "")
    assert carried({"traceparent": b"\xff\xfe"}).trace_id == ""


def test_text_of_any_bytes():
    """Bytes that are no UTF-8 are shown, not refused."""
    assert text(b"\xff\xfea") == "\\xff\\xfea"
    assert text(None) == ""
    assert text(7) == "7"


def test_what_did_not_get_through_is_said_so():
    """Refused for want of room: the emitter declares it. Lost by a defect: declared here, so nobody vouches for it."""
    kept = Kept()
    observer = Observer(kept, "orders", "billing")
    kept.refuses = True
    assert not observer.observe(Stage.ack, HEADERS, b"")
    assert (observer.counts.events, kept.missed) == (0, 0)
    kept.error = RuntimeError("no")
    assert not observer.observe(Stage.ack, HEADERS, b"")
    assert (observer.counts.events, kept.missed) == (0, 1)
