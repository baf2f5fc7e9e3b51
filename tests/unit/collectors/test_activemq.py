"""What an advisory says, and what of what was given is acked."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.activemq.advice import advice
from collectors.activemq.advisories import ActiveAdvisories
from collectors.activemq.config import ActiveConfig, Route
from collectors.activemq.given import Ends, Given
from collectors.activemq.life import Life
from collectors.activemq.link import Link
from collectors.activemq.record import CONNECTOR, CONSUMED, DEAD, DELIVERED, EXPIRED, SAYS, Decoder
from collectors.base import Raw
from collectors.errors import Undecodable
from tracker.model.event import Event, Stage

PLACE = "Queue.orders"


def part(data: bytes) -> dict[str, Any]:
    """As XStream writes a piece of an array."""
    return {"data": [base64.b64encode(b"??" + data + b"!").decode()], "offset": 2, "length": len(data)}


def java(value: str) -> bytes:
    """Java's modified UTF-8 with its length."""
    units = value.encode("utf-16-be", "surrogatepass")
    out = b""
    for (unit,) in struct.iter_unpack(">H", units):
        out += b"\xc0\x80" if unit == 0 else chr(unit).encode("utf-8", "surrogatepass")
    return struct.pack(">H", len(out)) + out


def properties(**values: bytes) -> bytes:
    """A map; each value with its type."""
    return struct.pack(">i", len(values)) + b"".join(java(name) + value for name, value in values.items())


def body(kind: str = "ActiveMQTextMessage", number: int = 1, **more: Any) -> bytes:
    """An advisory about a message."""
    producer = {"connectionId": "ID:a-1-2-3:4", "sessionId": -1, "value": 1}
    return msgspec.json.encode({kind: {"messageId": {"producerId": producer, "producerSequenceId": number}, **more}})


def test_properties_are_read_of_their_bytes() -> None:
    """Every type that has a value; behind what is nested nothing is read."""
    table = properties(
        text=b"\x09" + java("007\0é\U0001f600"), yes=b"\x01\x01", byte=b"\x02\xff", char=b"\x03\x00A",
        short=b"\x04\x00\x02", int=b"\x05" + struct.pack(">i", 5), long=b"\x06" + struct.pack(">q", 2**40),
        double=b"\x07" + struct.pack(">d", 0.5), float=b"\x08" + struct.pack(">f", 0.25),
        bytes=b"\x0a" + struct.pack(">i", 2) + b"ab", big=b"\x0d" + struct.pack(">i", 3) + b"big",
        none=b"\x00", map=b"\x0b", after=b"\x01\x01",
    )  # fmt: skip
    assert advice(body(marshalledProperties=part(table))).headers == {
        "text": "007\0é\U0001f600", "yes": True, "byte": -1, "char": "A", "short": 2, "int": 5, "long": 2**40,
        "double": 0.5, "float": 0.25, "bytes": b"ab", "big": "big",
    }  # fmt: skip


@given(st.text(max_size=20))
def test_any_text_is_read_as_it_was(value: str) -> None:
    """Whatever is in it."""
    assert advice(body(marshalledProperties=part(properties(a=b"\x09" + java(value))))).headers == {"a": value}


@pytest.mark.parametrize(
    ("kind", "more", "payload"),
    [
        ("ActiveMQTextMessage", {"content": part(b"\0\0\0\x02{}")}, b"{}"),
        ("ActiveMQBytesMessage", {"content": part(b"\0\0\0\x02{}")}, b"\0\0\0\x02{}"),
        ("ActiveMQTextMessage", {"content": part(b"zip"), "compressed": True}, None),
        ("ActiveMQTextMessage", {}, None),
        ("ActiveMQTextMessage", {"content": part(b"\0\0\0\x06\xed\xa0\xbd\xed\xb8\x80")}, None),
        ("ActiveMQTextMessage", {"content": part(b"\0\0\0\x02\xc0\x80")}, None),
    ],
)
def test_the_payload_is_the_producers(kind: str, more: dict[str, Any], payload: bytes | None) -> None:
    """A text without its length; what is not there, or packed, or in Java's own UTF-8, is not known."""
    assert advice(body(kind, **more)).payload == payload


WRONG = [
    b"", b"{}", b"[]", b'{"a":{}}', b'{"a":{"messageId":1}}', body(content={"data": 1}), body() + b"}",
    body(marshalledProperties=part(b"\0\0\0\x01\0\xff")),
    body(marshalledProperties=part(b"\x7f\xff\xff\xff\0\0\x0a" + struct.pack(">i", -7))),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_advisory_is_undecodable(wrong: bytes) -> None:
    """Never anything else."""
    with pytest.raises(Undecodable):
        advice(wrong)


def events(
    says: str, first_connector: str = "", connector: bytes = b"stomp://b:1", inside: Any = "", **message: Any
) -> list[Event]:
    """What an advisory tells of."""
    routes = (
        Route(queue="orders", flow="f", hop="q", consumer="c"),
        Route(topic="t", flow="f", hop="t"),
        Route(topic="durable", flow="f", hop="t", consumer="c"),
    )
    config = ActiveConfig(url="stomp://b:1", routes=routes, first_connector=first_connector, inside=inside)
    raw = Raw(body(**message), {SAYS: says.encode(), CONNECTOR: connector}, None, None, 10_000_000)
    return [event for event in Decoder(config).decode(raw) if isinstance(event, Event)]


def observed(says: str, *where: Any, **message: Any) -> list[tuple[str, str]]:
    """Stage and reason of that."""
    return [(event.stage.value, event.reason) for event in events(says, *where, **message)]


def test_who_took_it() -> None:
    """What was given to nobody was acked by nobody; what the broker took away itself has its first connector's name,
    and where applications come by that one, nothing follows from it."""
    given: dict[str, Any] = {"brokerOutTime": 5}
    assert observed(f"{CONSUMED}.{PLACE}") == [("drop", "purged")]
    assert observed(f"{CONSUMED}.{PLACE}", **given) == [("ack", "")]
    assert observed(f"{CONSUMED}.{PLACE}", "stomp://b:1", **given) == [("drop", "purged")]
    assert observed(f"{CONSUMED}.{PLACE}", "stomp://b:1", b"tcp://b:2", **given) == [("ack", "")]
    assert observed(f"{CONSUMED}.{PLACE}", "", b"", **given) == [("ack", "")]


def test_what_is_taken_inside_of_the_brokers_process() -> None:
    """By an application in it, or to be given to another broker: nothing is known, but what an operator says."""
    told = {inside: observed(f"{CONSUMED}.{PLACE}", "", b"vm://b", inside, brokerOutTime=5)
            for inside in ("", "network", "clients")}  # fmt: skip
    assert told == {"": [], "network": [], "clients": [("ack", "")]}
    assert observed(f"{CONSUMED}.{PLACE}", "", b"vm://b") == [("drop", "purged")]


def test_what_a_selector_leaves_out_of_a_topic_is_no_ack() -> None:
    """The broker says at once that it was consumed; it was given to nobody."""
    (event,) = events(f"{CONSUMED}.Topic.durable")
    assert (event.hop, event.stage, event.reason) == ("c", Stage.drop, "filtered")
    assert observed(f"{CONSUMED}.Topic.durable", brokerOutTime=5) == [("ack", "")]


@pytest.mark.parametrize(("timestamp", "origin_at"), [(5, 5000), (0, None), (-5, None), (2**63 - 1, None)])
def test_a_time_that_is_none_is_left_out(timestamp: int, origin_at: int | None) -> None:
    """A client may set any."""
    (event,) = events(f"{DELIVERED}.{PLACE}", timestamp=timestamp)
    assert event.origin_at == origin_at


def test_why_it_died() -> None:
    """By its expiry, or because somebody did not want it. Of a topic of which nobody knows the one subscriber nothing
    is told."""
    assert observed(f"{DEAD}.{PLACE}", expiration=9_000) == [("dead_letter", "expired")]
    assert observed(f"{DEAD}.{PLACE}", expiration=11_000) == [("dead_letter", "rejected")]
    assert observed(f"{DEAD}.{PLACE}") == [("dead_letter", "rejected")]
    assert observed(f"{EXPIRED}.{PLACE}") == [("drop", "expired")]
    for kind in (DEAD, EXPIRED, CONSUMED, "MessageDiscarded"):
        assert observed(f"{kind}.Topic.t", brokerOutTime=5) == []


def test_an_ack_stands_for_all_before_it() -> None:
    """So it waits for the oldest."""
    given = Given()
    one, two, three = (given.take(f"a{n}") for n in (1, 2, 3))
    given.settle([two])
    assert given.acknowledged() == ""
    given.settle([one, one])
    assert given.acknowledged() == "a2"
    given.settle([one, two])
    assert given.acknowledged() == ""
    given.settle([three])
    assert given.acknowledged() == "a3"


def test_an_end_is_told_once_and_acked_with_what_follows() -> None:
    """Dead, expired, consumed: whatever of the three comes."""
    ends = Ends(100)
    assert ends.told(CONSUMED, PLACE, 1, body()) == (False, (1,))
    assert ends.told(DEAD, PLACE, 2, body()) == (False, ())
    assert ends.told(EXPIRED, PLACE, 3, body()) == (True, ())
    assert ends.told(CONSUMED, PLACE, 4, body(number=2)) == (False, (4,))
    assert ends.told(CONSUMED, "Queue.other", 5, body()) == (False, (5,))
    assert ends.told(CONSUMED, PLACE, 6, body()) == (True, (2, 3, 6))
    assert ends.told(CONSUMED, PLACE, 7, body()) == (False, (7,))
    assert ends.told(DEAD, PLACE, 8, b"?") == (False, (8,))


def test_an_end_that_nothing_follows_is_acked_at_the_second_canary() -> None:
    """And not before: what follows may be behind the first."""
    ends = Ends(100)
    ends.told(EXPIRED, PLACE, 1, body())
    assert [ends.left() for _ in range(3)] == [(), (1,), ()]


def test_an_end_that_nothing_follows_does_not_hold_up_what_comes_behind_it() -> None:
    """It is settled with the next ones, and what follows nevertheless is still no ack."""
    ends = Ends(2)
    ends.told(EXPIRED, PLACE, 1, body())
    ends.told(DEAD, PLACE, 2, body(number=2))
    assert [ends.overdue(number) for number in (2, 3, 4, 5)] == [(), (1,), (2,), ()]
    assert ends.told(CONSUMED, PLACE, 5, body())[0]


def test_ends_that_nothing_follows_are_forgotten_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first, when there are many."""
    monkeypatch.setattr("collectors.activemq.given.REMEMBERED", 2)
    ends = Ends(2)
    for number in range(1, 4):
        ends.told(EXPIRED, PLACE, number, body(number=number))
    assert [ends.told(CONSUMED, PLACE, 9, body(number=number))[0] for number in (1, 2, 3)] == [False, True, True]


def test_the_life_that_was_read_is_remembered(tmp_path: Any) -> None:
    """By the next process; without a folder by nobody."""
    for folder, last in ((tmp_path / "new", "ID:a-1"), (None, "")):
        Life(folder).keep("ID:a-1")
        assert Life(folder).last == last
    (tmp_path / "file").write_text("")
    Life(tmp_path / "file").keep("ID:a-1")  # as on a disk that takes nothing: it is not remembered, and that is all


class Answers:
    """A socket that gives these pieces, and then nothing."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def settimeout(self, _: float) -> None:
        """As a socket."""

    def recv(self, _: int) -> bytes:
        """The next piece."""
        if not self.pieces:
            raise TimeoutError
        return self.pieces.pop(0)


def frames(*pieces: bytes) -> list[Any]:
    """What a connection makes of them."""
    link = Link.__new__(Link)
    link.__dict__ |= {
        "what": "it", "_buffer": bytearray(), "_scanned": 0, "_heard": 9e9, "_said": 9e9, "_beats": True,
        "_socket": Answers(*pieces),
    }  # fmt: skip
    found = []
    while frame := link.next(0.0):
        found.append(frame)
    return found


@given(st.data())
def test_frames_are_read_however_they_come(data: st.DataObject) -> None:
    """In any pieces: with a length, with a NUL in it, escaped, beats between them."""
    whole = (
        b"\n\nMESSAGE\na\\cb:1\\n\\\\2\na\\cb:second\ncontent-length:3\n\n{\0}\0\n\nRECEIPT\nreceipt-id:7\n\nsaid\0\n"
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=9)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    first, second = frames(*pieces)
    assert (first.command, first.headers["a:b"], first.body) == ("MESSAGE", "1\n\\2", b"{\0}")
    assert (second.headers, second.body) == ({"receipt-id": "7"}, b"said")


def test_nothing_is_known_before_it_is_connected() -> None:
    """Neither that all is well, nor that something is missing."""
    collector = ActiveAdvisories("one", ActiveConfig(url="stomp://b:1", routes=(Route(queue="q", flow="f", hop="q"),)))
    assert collector.sources() is None
    assert collector.lag().ms > 10**8
