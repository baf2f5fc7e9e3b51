"""Copies from a stream of a real NATS, and sending them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from collectors.carried import digest_of
from collectors.nats.publisher import publisher
from collectors.nats.source import source
from tests.brokers.nats_stream import Stream, own_stream
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tracker.cli.hops import build
from tracker.model.carry import MESSAGE_ID, REPLAY_ATTEMPT, REPLAY_ID, Copy, Locator, Missing

pytestmark = pytest.mark.brokers


@pytest.fixture
def stream(nats_server: str) -> Iterator[Stream]:
    """A stream of the test's own."""
    with own_stream(nats_server) as stream:
        yield stream


def at(stream: Stream, name: str, seq: int) -> Locator:
    """Where a message lies."""
    return Locator(name, "nats-eu", stream.name, seq)


def last(stream: Stream, seq: int) -> Any:
    """A message, as the application sees it."""
    return stream.do(stream.js.get_msg(stream.name, seq))


def again(copy: Copy | Missing, attempt: bytes = b"1") -> Copy:
    """As a replay sends it."""
    assert isinstance(copy, Copy)
    added = {REPLAY_ID: b"r-1", REPLAY_ATTEMPT: attempt}
    return Copy(copy.locator, None, copy.value, copy.headers | added, copy.digest, copy.native)


def test_a_round_trip_keeps_subject_headers_and_payload(stream: Stream) -> None:
    """As the composition root joins both ends. Each attempt is stored once, though the server removes duplicates of the
    id that the message came with."""
    headers = {"Nats-Msg-Id": "m-0", "colour": "blue", "Nats-Expected-Last-Sequence": "0"}
    stream.do(stream.js.publish(f"{stream.name}.eu.new", b"\x00payload\xff", headers=headers))
    ends = build({"nats-eu": {"kind": "nats", "url": stream.url}})
    try:
        (log,), (back,) = ends.sources.values(), ends.publishers.values()
        [copy] = log.fetch([at(stream, "m-0", 1)])
        assert isinstance(copy, Copy)
        assert (copy.digest, copy.message_id) == (digest_of(b"\x00payload\xff"), "m-0")
        for attempt in (b"1", b"1", b"2"):
            [sent] = back.publish([again(copy, attempt)])
            assert sent.error == ""
    finally:
        ends.close()
    assert stream.content()[2] == 3, "the one that was sent twice in one attempt is there once"
    for seq in (2, 3):
        message = last(stream, seq)
        assert (message.subject, message.data) == (f"{stream.name}.eu.new", b"\x00payload\xff")
        assert (message.headers[MESSAGE_ID], message.headers["colour"]) == ("m-0", "blue")
        assert "Nats-Expected-Last-Sequence" not in message.headers


def test_what_is_not_there_says_why(stream: Stream) -> None:
    """Purged, beyond the end, deleted, another message, no stream."""
    stream.put([f"m-{n}" for n in range(4)])
    stream.do(stream.js.purge_stream(stream.name, seq=2))
    stream.do(stream.js.delete_msg(stream.name, 3))
    wanted = [at(stream, f"m-{n}", n + 1) for n in (0, 2, 7)] + [at(stream, "other", 4)]
    with closing(source({"url": stream.url})) as log:
        answers = log.fetch([*wanted, Locator("m-9", "nats-eu", "nobodys", 1)])
    reasons = {answer.locator.message_id: answer.reason for answer in answers if isinstance(answer, Missing)}
    assert reasons == {
        "m-0": "expired, discarded or purged: the stream begins at 2", "m-2": "deleted, or acked",
        "m-7": "the stream ends at 4", "other": "another message is there now: 'm-3'; the stream was made again",
        "m-9": "the stream no longer exists",
    }  # fmt: skip


def test_a_connection_that_lay_idle_leaves_no_doubt(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closed it meanwhile, for nobody answered its pings."""
    monkeypatch.setattr("collectors.nats.publisher.IDLE_S", 0.0)
    server = urlsplit(stream.url)
    fine = Copy(at(stream, "m-3", 4), None, b"{}", {}, digest_of(b"{}"), f"{stream.name}.new")
    with (
        Proxy((server.hostname or "", server.port or 0)) as proxy,
        closing(publisher({"url": f"nats://{proxy.at}"})) as back,
    ):
        for _ in range(2):
            assert [one.error for one in back.publish([fine])] == [""]
            proxy.cut()


def test_what_cannot_be_sent_says_why(stream: Stream) -> None:
    """Each copy for itself: no subject, no text, nobody takes it; a full stream; no server."""
    stream.update(max_msgs=1, discard="new")
    plain = Copy(at(stream, "m-0", 1), None, b"{}", {}, digest_of(b"{}"))
    binary = Copy(at(stream, "m-1", 2), None, b"{}", {"colour": b"\xff"}, digest_of(b"{}"), f"{stream.name}.new")
    nobody = Copy(at(stream, "m-2", 3), None, b"{}", {}, digest_of(b"{}"), "nobody.takes.it")
    fine = Copy(at(stream, "m-3", 4), None, b"{}", {}, digest_of(b"{}"), f"{stream.name}.new")
    with closing(publisher({"url": stream.url})) as back:
        errors = [sent.error for sent in back.publish([plain, binary, nobody, fine])]
        assert [error.partition(":")[0] for error in errors] == ["not sent", "not sent", "refused", ""]
        [full] = back.publish([fine])
        assert "maximum messages exceeded" in full.error
    with closing(publisher({"url": f"nats://127.0.0.1:{free_port()}"})) as back:
        [sent] = back.publish([fine])
    assert sent.error.startswith("not sent: NATS 127.0.0.1")
    assert sent.untried
