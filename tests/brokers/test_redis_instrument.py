"""Instrumented redis-py clients against a real Redis: what they record, and that the application notices nothing."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import closing
from typing import Any

import msgspec
import pytest
import redis
from redis import asyncio as aio

from collectors.carried import text
from collectors.instrument import redis as instrument
from collectors.instrument.observe import Observer
from collectors.redis.streams import streams
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Event

pytestmark = pytest.mark.brokers
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_names = itertools.count()


class Kept:
    """What an observer emitted, in order; with `broken` it can take nothing."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lost_ones, self.broken = 0, False

    def emit_line(self, line: bytes) -> int:
        """Keep."""
        if self.broken:
            raise OSError("no spool")
        self.events.append(msgspec.json.decode(line, type=Event))
        return len(self.events)

    def lost(self, count: int = 1) -> None:
        """Count."""
        self.lost_ones += count

    def vouch(self, sources: Any, lag: Any = None, at: Any = None) -> None:
        """Not looked at here."""

    def sign_off(self, sources: Any) -> None:
        """Not looked at here."""

    def told(self) -> list[tuple[str, str]]:
        """(message id, stage) in order."""
        return [(event.message_id, event.stage.value) for event in self.events]


@pytest.fixture
def kept():
    """Where the observations go."""
    return Kept()


@pytest.fixture
def stream(redis_server):
    """A stream of the test's own with the group `billing`."""
    name = f"instrumented-{next(_names)}"
    with redis.Redis.from_url(redis_server) as client:
        client.xgroup_create(name, "billing", mkstream=True)
        yield name
        client.delete(name)


def observed(url: str, kept: Kept, **options: Any) -> Any:
    """An observed client."""
    return instrument.client(redis.Redis.from_url(url, **options), Observer(kept, "orders", "app"), payload="body")


@pytest.mark.parametrize("options", [
    {}, {"protocol": 2}, {"protocol": 3}, {"decode_responses": True},
], ids=["default", "resp2", "resp3", "text"])  # fmt: skip
def test_produce_deliver_and_ack(redis_server, stream, kept, options):
    """Id and origin time are set where the application set none; the trace goes along; an ack is told once, and one
    that redis-py is given as text or bytes is the same."""
    mine = {"body": "{}", "traceparent": TRACE}
    with observed(redis_server, kept, **options) as client:
        client.xadd(stream, mine)
        client.xadd(stream, {b"body": b"{}", MESSAGE_ID: "m-2", ORIGIN_AT: 1_700_000_000_000_000})
        answer = client.xreadgroup("billing", "a", {stream: ">"})
        pages = answer.values() if isinstance(answer, dict) else [found for _, found in answer]
        flat = [one for page in pages for one in (page[0] if isinstance(page[0], list) else page)]
        assert client.xack(stream, "billing", flat[0][0]) == 1
        assert client.xack(stream, "billing", text(flat[1][0])) == 1
        assert client.xreadgroup("billing", "a", {stream: ">"}) in ([], {}, None)
    assert mine == {"body": "{}", "traceparent": TRACE}
    made = kept.events[0].message_id
    assert kept.told() == [(made, "produce"), ("m-2", "produce"), (made, "deliver"), ("m-2", "deliver"), (made, "ack"),
                           ("m-2", "ack")]  # fmt: skip
    assert len(made) == 36
    assert {e.trace_id for e in kept.events if e.message_id == made} == {TRACE.split("-")[1]}
    assert {e.origin_at for e in kept.events if e.message_id == "m-2"} == {1_700_000_000_000_000}
    assert len({e.digest for e in kept.events}) == 1
    assert kept.lost_ones == 0


def test_the_collector_sees_the_same_payload(redis_server, stream, kept, tmp_path):
    """The digests of the producer and of the stream agree."""
    part = {"stream": stream, "flow": "orders", "hop": "redis", "payload": "body"}
    config = {"url": redis_server, "cursor": str(tmp_path / "cursor"), "watch": "poll", "streams": [part]}
    with observed(redis_server, kept) as client, closing(streams("one", config)) as collector:
        client.xadd(stream, {"body": "f\u00fcr", "kind": "paid"})
        seen = [event for _ in range(50) for raw in collector.read(10, 0.1) for event in collector.decode(raw)]
        assert [(e.message_id, e.digest, e.origin_at) for e in seen] == [
            (e.message_id, e.digest, e.origin_at) for e in kept.events
        ]


def test_a_take_over_and_a_read_without_acks(redis_server, stream, kept):
    """What was claimed is delivered again; with `noack` a read is the ack."""
    with observed(redis_server, kept) as client:
        client.xadd(stream, {MESSAGE_ID: "m-1"})
        client.xreadgroup("billing", "a", {stream: ">"})
        client.xautoclaim(stream, "billing", "b", 0)
        client.xadd(stream, {MESSAGE_ID: "m-2"})
        client.xreadgroup("billing", "a", {stream: ">"}, noack=True)
    assert kept.told() == [("m-1", "produce"), ("m-1", "deliver"), ("m-1", "deliver"), ("m-2", "produce"),
                           ("m-2", "deliver"), ("m-2", "ack")]  # fmt: skip
    assert len({e.delivery for e in kept.events if e.stage == "deliver"}) == 3


def test_a_pipeline(redis_server, stream, kept):
    """Its adds are told when the server answered, its acks before it is asked; one that failed is not told."""
    with observed(redis_server, kept) as client:
        client.xadd(stream, {MESSAGE_ID: "m-1"})
        [[_, [(entry, _)]]] = client.xreadgroup("billing", "a", {stream: ">"})
        with client.pipeline() as batch:
            batch.set("else", 1).xadd(stream, {MESSAGE_ID: "m-2"}).xadd("else", {MESSAGE_ID: "m-3"})
            batch.xack(stream, "billing", entry)
            assert ("m-1", "ack") not in kept.told()
            answers = batch.execute(raise_on_error=False)
            assert len(answers) == 4
        client.delete("else")
    assert kept.told()[2:] == [("m-1", "ack"), ("m-2", "produce")]


def test_asyncio(redis_server, stream, kept):
    """The same by `redis.asyncio`."""

    async def work() -> None:
        async with instrument.client(aio.Redis.from_url(redis_server), Observer(kept, "orders", "app")) as client:
            await client.xadd(stream, {MESSAGE_ID: "m-1"})
            async with client.pipeline() as batch:
                await batch.xadd(stream, {MESSAGE_ID: "m-2"}).execute()
            [[_, entries]] = await client.xreadgroup("billing", "a", {stream: ">"})
            for entry, _ in entries:
                await client.xack(stream, "billing", entry)

    asyncio.run(work())
    assert kept.told() == [(one, stage) for stage in ("produce", "deliver", "ack") for one in ("m-1", "m-2")]


def test_nothing_of_ours_is_the_applications_trouble(redis_server, stream, kept):
    """What cannot be told is declared as lost; what the server refuses is the application's to know, and is not
    told."""
    with observed(redis_server, kept) as client:
        client.set("no-stream", 1)
        with pytest.raises(redis.ResponseError):
            client.xadd("no-stream", {MESSAGE_ID: "m-0"})
        with pytest.raises(redis.DataError):
            client.xadd(stream, {})
        client.delete("no-stream")
        assert (kept.told(), kept.lost_ones) == ([], 0)
        client.xadd(stream, {MESSAGE_ID: "m-1"})
        assert client.xack(stream, "billing", "1-1") == 0  # of another process: nobody here knows which message it is
        assert kept.lost_ones == 1
        kept.broken = True
        client.xadd(stream, {MESSAGE_ID: "m-2"})
        [[_, entries]] = client.xreadgroup("billing", "a", {stream: ">"})
        assert client.xack(stream, "billing", *(name for name, _ in entries)) == 2
    assert kept.told() == [("m-1", "produce")]
    assert kept.lost_ones == 6
