"""Instrumentation of redis-py, sync and asyncio: XADD is produce, XREADGROUP, XCLAIM and XAUTOCLAIM deliver, XACK ack.

One line: `client = instrument.client(redis.Redis(...), observer)`; the same for `redis.asyncio.Redis`. An entry gets
fields of message id and origin time where it has none; a `traceparent` that the application sets goes along with the
events. An ack is in the spool before the server is told: a SIGKILL between the two leads to a redelivery, never to a
hole.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from inspect import isawaitable
from typing import Any

from redis import asyncio as aio

from collectors.carried import Carried, carried, text
from collectors.clock import now_micros
from collectors.instrument.observe import Observer
from collectors.redis.entry import id_of, offset_of, payload_of
from tracker.model.carry import ORIGIN_AT
from tracker.model.event import Stage

MOST_HELD = 100_000
"""Entries that were delivered and not acked, at most: an ack of one beyond has no name, and is told as lost."""


def client(
    client: Any, observer: Observer, *, streams: Collection[str] | None = None, payload: str = ""
) -> ObservedRedis | ObservedAsyncRedis:
    """The same client, observed: use it in place of the one given.

    Only these `streams` are observed (None: all); a client that serves two flows is wrapped twice. `payload`: the field
    that holds the message, as the collector of the stream has it.
    """
    notes = Notes(observer, streams, payload, client.get_encoder().encode)
    return (ObservedAsyncRedis if isinstance(client, aio.Redis) else ObservedRedis)(client, notes)


class Notes:
    """What is observed through one client. No method waits or raises, whatever a message holds."""

    def __init__(
        self, observer: Observer, streams: Collection[str] | None, payload: str, encode: Callable[[Any], bytes]
    ) -> None:
        self._observer, self._streams, self._payload, self._encode = observer, streams, payload, encode
        self._session = uuid.uuid4().hex[:16]
        self._held: OrderedDict[tuple[str, str, str], bytes | None] = OrderedDict()

    def watches(self, stream: Any) -> bool:
        """Whether it is observed."""
        return self._streams is None or text(stream) in self._streams

    def stamped(self, fields: Any) -> Any:
        """The fields to send: message id and origin time added where they are absent. What redis-py will refuse anyway
        is left as it is."""
        if not isinstance(fields, dict) or not fields:
            return fields
        try:
            said = {text(name): value for name, value in fields.items()}
            stamped = self._observer.stamp(said)
            added = {name: stamped[name] for name in (self._observer.identity_header, ORIGIN_AT) if not said.get(name)}
            return {name: value for name, value in fields.items() if text(name) not in added} | added
        except Exception:  # noqa: BLE001 - the boundary to somebody's application
            return fields

    def produced(self, stream: Any, entry: Any, fields: Any, at: int) -> None:
        """The server gave it an id; the application called at `at`."""
        if entry is not None:  # NOMKSTREAM, and there is no stream
            where = f"{text(stream)}/{text(entry)}"
            self._observer.tell(Stage.produce, self._shared(stream, entry, fields, where), observed_at=at)

    def delivered(self, stream: Any, group: Any, consumer: Any, entries: Any, noack: bool = False) -> None:
        """Entries were handed to the application. With `noack` the group is done with them, too."""
        try:
            for entry, fields in entries:
                if fields is None:  # pending, and deleted
                    continue
                name = text(stream), text(group), text(entry)
                where = f"{name[0]}/{name[2]}:{name[1]}:{text(consumer)}:{self._session}"
                shared = self._shared(stream, entry, fields, where, name[1])
                self._observer.tell(Stage.deliver, shared)
                if noack:
                    self._observer.tell(Stage.ack, shared, attributes={"noack": "true"})
                    continue
                self._held[name] = shared
                if len(self._held) > MOST_HELD:
                    self._held.popitem(last=False)
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._lost(Stage.deliver, error)

    def given(self, group: Any, consumer: Any, answer: Any, noack: bool) -> None:
        """What XREADGROUP answered, in either of the forms that redis-py has for it."""
        try:
            pages = list(answer or ())
            if isinstance(answer, Mapping):  # RESP3
                pages = [(stream, [one for page in found for one in page]) for stream, found in answer.items()]
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._lost(Stage.deliver, error)
            return
        for stream, entries in pages:
            if self.watches(stream):
                self.delivered(stream, group, consumer, entries, noack)

    def acking(self, stream: Any, group: Any, entries: Any) -> None:
        """The server is about to be told that the group is done with these."""
        for entry in entries:
            try:
                shared = self._held.pop((text(stream), text(group), text(entry)))
            except Exception as error:  # noqa: BLE001 - nobody knows which message it is
                self._lost(Stage.ack, error)
            else:
                self._observer.tell(Stage.ack, shared)

    def unanswered(self, entries: int, error: Exception) -> None:
        """So many were added, or not: nobody said."""
        for _ in range(entries):
            self._lost(Stage.produce, error)

    def _shared(self, stream: Any, entry: Any, fields: Any, delivery: str, group: str = "") -> bytes | None:
        try:
            plain = {self._encode(name): self._encode(value) for name, value in fields.items()}
            said: Carried = carried(
                {text(name): value for name, value in plain.items()}, self._observer.identity_header
            )
            value = payload_of(plain, self._payload, self._observer.identity_header)
            return self._observer.share(
                None, value, said=said, delivery=delivery, partition=text(stream),
                offset=offset_of(id_of(text(entry))), group=group,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self._observer.cannot(error)
            return None

    def _lost(self, stage: Stage, error: Exception) -> None:
        self._observer.cannot(error)
        self._observer.tell(stage, None)


class _Observed:
    """What both clients share: all that is not here is the client's own."""

    def __init__(self, client: Any, notes: Notes) -> None:
        self._client, self._notes = client, notes

    def __getattr__(self, name: str) -> Any:
        """Everything else: the client's own."""
        return getattr(self._client, name)

    def pipeline(self, *args: Any, **options: Any) -> ObservedPipeline:
        """As the client, observed, too: what it holds counts when it is executed."""
        return ObservedPipeline(self._client.pipeline(*args, **options), self._notes)


class ObservedRedis(_Observed):
    """A `redis.Redis` whose streams are observed."""

    def __enter__(self) -> ObservedRedis:
        """As the client: for `with`."""
        self._client.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        """As the client: closes it."""
        return self._client.__exit__(*raised)

    def xadd(self, name: Any, fields: Any, *args: Any, **options: Any) -> Any:
        """As the client, with message id and origin time set where absent. Records `produce` when the server gave it an
        id."""
        if not self._notes.watches(name):
            return self._client.xadd(name, fields, *args, **options)
        fields, at = self._notes.stamped(fields), now_micros()
        entry = self._client.xadd(name, fields, *args, **options)
        self._notes.produced(name, entry, fields, at)
        return entry

    def xreadgroup(self, groupname: Any, consumername: Any, streams: Any, *args: Any, **options: Any) -> Any:
        """As the client. Records `deliver`; with `noack` also `ack`, for nothing later can be seen."""
        answer = self._client.xreadgroup(groupname, consumername, streams, *args, **options)
        self._notes.given(groupname, consumername, answer, _noack(args, options))
        return answer

    def xclaim(self, name: Any, groupname: Any, consumername: Any, *args: Any, **options: Any) -> Any:
        """As the client. Records `deliver` of what was taken over."""
        answer = self._client.xclaim(name, groupname, consumername, *args, **options)
        if self._notes.watches(name) and not options.get("justid"):
            self._notes.delivered(name, groupname, consumername, answer)
        return answer

    def xautoclaim(self, name: Any, groupname: Any, consumername: Any, *args: Any, **options: Any) -> Any:
        """As the client. Records `deliver` of what was taken over."""
        answer = self._client.xautoclaim(name, groupname, consumername, *args, **options)
        if self._notes.watches(name) and not options.get("justid"):
            self._notes.delivered(name, groupname, consumername, answer[1])
        return answer

    def xack(self, name: Any, groupname: Any, *ids: Any) -> Any:
        """As the client; `ack` is recorded before the server is told."""
        if self._notes.watches(name):
            self._notes.acking(name, groupname, ids)
        return self._client.xack(name, groupname, *ids)


class ObservedAsyncRedis(_Observed):
    """A `redis.asyncio.Redis` whose streams are observed."""

    async def __aenter__(self) -> ObservedAsyncRedis:
        """As the client: for `async with`."""
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> Any:
        """As the client: closes it."""
        return await self._client.__aexit__(*raised)

    async def xadd(self, name: Any, fields: Any, *args: Any, **options: Any) -> Any:
        """As `ObservedRedis.xadd`."""
        if not self._notes.watches(name):
            return await self._client.xadd(name, fields, *args, **options)
        fields, at = self._notes.stamped(fields), now_micros()
        entry = await self._client.xadd(name, fields, *args, **options)
        self._notes.produced(name, entry, fields, at)
        return entry

    async def xreadgroup(self, groupname: Any, consumername: Any, streams: Any, *args: Any, **options: Any) -> Any:
        """As `ObservedRedis.xreadgroup`."""
        answer = await self._client.xreadgroup(groupname, consumername, streams, *args, **options)
        self._notes.given(groupname, consumername, answer, _noack(args, options))
        return answer

    async def xclaim(self, name: Any, groupname: Any, consumername: Any, *args: Any, **options: Any) -> Any:
        """As `ObservedRedis.xclaim`."""
        answer = await self._client.xclaim(name, groupname, consumername, *args, **options)
        if self._notes.watches(name) and not options.get("justid"):
            self._notes.delivered(name, groupname, consumername, answer)
        return answer

    async def xautoclaim(self, name: Any, groupname: Any, consumername: Any, *args: Any, **options: Any) -> Any:
        """As `ObservedRedis.xautoclaim`."""
        answer = await self._client.xautoclaim(name, groupname, consumername, *args, **options)
        if self._notes.watches(name) and not options.get("justid"):
            self._notes.delivered(name, groupname, consumername, answer[1])
        return answer

    async def xack(self, name: Any, groupname: Any, *ids: Any) -> Any:
        """As `ObservedRedis.xack`."""
        if self._notes.watches(name):
            self._notes.acking(name, groupname, ids)
        return await self._client.xack(name, groupname, *ids)


class ObservedPipeline:
    """A pipeline of either client: XADD and XACK of it are observed when it is executed. Its reads are not."""

    def __init__(self, pipeline: Any, notes: Notes) -> None:
        self._pipeline, self._notes = pipeline, notes
        self._adds: list[tuple[int, Any, Any]] = []
        self._acks: list[tuple[Any, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        """Everything else: the pipeline's own; what gives the pipeline gives this one."""
        found = getattr(self._pipeline, name)
        if not callable(found):
            return found

        def called(*args: Any, **options: Any) -> Any:
            answer = found(*args, **options)
            return self if answer is self._pipeline else answer

        return called

    def __len__(self) -> int:
        """As the pipeline: commands that wait."""
        return len(self._pipeline)

    def __bool__(self) -> bool:
        """As the pipeline: always true."""
        return True

    def __enter__(self) -> ObservedPipeline:
        """As the pipeline: for `with`."""
        self._pipeline.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        """As the pipeline."""
        return self._pipeline.__exit__(*raised)

    async def __aenter__(self) -> ObservedPipeline:
        """As the pipeline: for `async with`."""
        await self._pipeline.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> Any:
        """As the pipeline."""
        return await self._pipeline.__aexit__(*raised)

    def reset(self) -> Any:
        """As the pipeline: what waits is forgotten."""
        self._adds, self._acks = [], []
        return self._pipeline.reset()

    def xadd(self, name: Any, fields: Any, *args: Any, **options: Any) -> Any:
        """As `ObservedRedis.xadd`; `produce` is recorded when the server has answered to the whole."""
        if not self._notes.watches(name):
            answer = self._pipeline.xadd(name, fields, *args, **options)
            return self if answer is self._pipeline else answer
        fields, place = self._notes.stamped(fields), len(self._pipeline)
        answer = self._pipeline.xadd(name, fields, *args, **options)
        if answer is self._pipeline:
            self._adds.append((place, name, fields))
            return self
        at = now_micros()  # while keys are watched commands are executed at once
        if isawaitable(answer):
            return self._told(answer, name, fields, at)
        self._notes.produced(name, answer, fields, at)
        return answer

    def xack(self, name: Any, groupname: Any, *ids: Any) -> Any:
        """As `ObservedRedis.xack`; `ack` is recorded before the whole is sent."""
        answer = self._pipeline.xack(name, groupname, *ids)
        if self._notes.watches(name):
            if answer is self._pipeline:
                self._acks.append((name, groupname, ids))
            else:
                self._notes.acking(name, groupname, ids)
        return self if answer is self._pipeline else answer

    def execute(self, *args: Any, **options: Any) -> Any:
        """As the pipeline."""
        adds, acks, at = self._adds, self._acks, now_micros()
        self._adds, self._acks = [], []
        for one in acks:
            self._notes.acking(*one)
        try:
            answers = self._pipeline.execute(*args, **options)
        except Exception as error:
            self._notes.unanswered(len(adds), error)
            raise
        return self._awaited(answers, adds, at) if isawaitable(answers) else self._answered(answers, adds, at)

    async def _awaited(self, answers: Any, adds: list[tuple[int, Any, Any]], at: int) -> Any:
        try:
            found = await answers
        except Exception as error:
            self._notes.unanswered(len(adds), error)
            raise
        return self._answered(found, adds, at)

    async def _told(self, answer: Any, name: Any, fields: Any, at: int) -> Any:
        entry = await answer
        self._notes.produced(name, entry, fields, at)
        return entry

    def _answered(self, answers: Any, adds: list[tuple[int, Any, Any]], at: int) -> Any:
        for place, name, fields in adds:
            answer = answers[place] if place < len(answers) else None
            if not isinstance(answer, Exception):
                self._notes.produced(name, answer, fields, at)
        return answers


def _noack(args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """`noack` is the third behind the streams."""
    return bool(options.get("noack", args[2] if len(args) > 2 else False))
