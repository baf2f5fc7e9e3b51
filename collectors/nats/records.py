"""From a message of a stream to `persist` or `replicate`, from what was said of one to `ack` and its kin. Pure: no I/O,
and no error but `Undecodable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from collectors.base import Observation, Raw
from collectors.carried import MORE, Carried, carried, digest_of
from collectors.errors import Undecodable
from collectors.nats.config import NatsConfig, Route
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.event import Event, Range, Stage

DEDUPLICATED = "Nats-Msg-Id"
"""By which the server knows a message that a publisher sends twice: the application's own id, if it says no other."""


WORKING = "working"
"""Instead of a reason: a client asked for more time."""


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a message: all that its ack says again. `headers`: those that matter; `at`: when it was
    stored (µs), by which it is told from one of the same number in a stream that was made again."""

    subject: str
    at: int
    headers: dict[str, bytes]
    digest: str
    size: int

    @property
    def weight(self) -> int:
        """Bytes that it takes, about."""
        return 64 + len(self.subject) + sum(len(name) + len(value) for name, value in self.headers.items())


class Place(msgspec.Struct, frozen=True):
    """Where a message stands. `life`: when its stream was made; `at`: when it was stored (µs; 0: nobody asks). `came`:
    between which moments of our own clock (µs) a copy came; None: the stream says when."""

    stream: str
    life: str
    seq: int
    at: int = 0
    subject: str = ""
    came: tuple[int, int] | None = None


class Said(msgspec.Struct, frozen=True):
    """What stands at `place`, in a stream of ours: that `consumer`, the hop `hop`, did `stage` to the message `seq` of
    `stream`, stored at `at` (µs, 0: it does not say), in its delivery `delivery`. `stage` None: nothing that counts.
    `known` None: nobody knows that message."""

    place: Place
    stream: str
    seq: int
    at: int
    consumer: str
    hop: str
    stage: Stage | None
    reason: str
    delivery: str
    deliveries: int
    known: Known | None

    @property
    def settles(self) -> bool:
        """Whether the consumer is done with the message."""
        return self.stage in (Stage.ack, Stage.dead_letter)

    @property
    def works(self) -> bool:
        """Whether a client asked for more time."""
        return self.stage is None and self.reason == WORKING

    @property
    def whole(self) -> bool:
        """Whether the message itself belongs to it: an archive keeps dead letters."""
        return self.stage is Stage.dead_letter

    def of(self, known: Known | None) -> bool:
        """Whether it is this message."""
        return known is not None and self.at in (0, known.at)


class Gone(msgspec.Struct, frozen=True):
    """`place` is the first message that the stream still holds; those from `start` to `end` (not among them) will be
    given to nobody. It happened after `since` (our own clock, µs)."""

    place: Place
    start: int
    end: int
    reason: str
    since: int


def place_of(raw: Raw) -> Place:
    """Where reading stands behind it."""
    at: Place | Said | Gone = raw.position
    return at if isinstance(at, Place) else at.place


def headers_of(encoded: bytes) -> dict[str, bytes]:
    """The headers of a message (`NATS/1.0`, then as in HTTP); of a name given twice the last."""
    found = {}
    for line in encoded.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.decode("utf-8", "backslashreplace")] = value.strip()
    return found


def said_of(headers: Mapping[str, object], identity: str) -> Carried:
    """What headers say; the id is in `identity`, else in our own, else it is that by which the server removes
    duplicates."""
    named = next((name for name in (identity, MESSAGE_ID, DEDUPLICATED) if headers.get(name)), identity)
    return carried(headers, named)


def delivery_of(stream: str, seq: int, consumer: str, number: int | str) -> str:
    """A hand-over to a consumer: the server numbers them."""
    return f"{stream}:{seq}:{consumer}:{number}"


def fits(pattern: str, subject: str) -> bool:
    """Whether a subject is one of those that `pattern` means (`*` one word, `>` one or more at the end)."""
    wanted, words = pattern.split("."), subject.split(".")
    for number, word in enumerate(wanted):
        if word == ">":
            return len(words) > number
        if number >= len(words) or word not in ("*", words[number]):
            return False
    return len(words) == len(wanted)


class Decoder(NamedTuple):
    """Makes events."""

    config: NatsConfig

    def route(self, stream: str, subject: str) -> Route | None:
        """The first that the subject fits."""
        return next((r for r in self.config.streams if r.stream == stream and fits(r.subject, subject)), None)

    def known(self, subject: str, at: int, headers: Mapping[str, bytes], value: bytes) -> Known:
        """What to remember of it."""
        names = MORE | {self.config.identity_header, MESSAGE_ID, DEDUPLICATED, ORIGIN_AT}
        return Known(subject, at, {k: v for k, v in headers.items() if k in names}, digest_of(value), len(value))

    def decode(self, raw: Raw) -> Sequence[Observation]:
        """What was observed; nothing where it is none of our business."""
        if raw.observed_at is None:
            raise Undecodable("a record without a time")
        match raw.position:
            case Place() as place:
                return self._stored(raw, place, raw.observed_at)
            case Said() as said:
                return self._acted(said, raw.observed_at)
            case Gone() as gone:
                return self._gone(gone, raw.observed_at)
        raise Undecodable("a record that does not say where it stood")

    def _stored(self, raw: Raw, place: Place, at: int) -> list[Event]:
        route = self.route(place.stream, place.subject)
        if route is None:
            return []
        since, at = place.came or (at, at)
        event = self._event(
            route.flow, route.hop, Stage(route.stage), (place.stream, place.seq), raw.headers,
            digest_of(raw.value), len(raw.value),
        )  # fmt: skip
        return [msgspec.structs.replace(event, observed_at=at, observed_from=since if since < at else None)]

    def _acted(self, said: Said, at: int) -> list[Event]:
        if said.stage is None:
            return []
        known = said.known
        if known is None:
            raise Undecodable(f"{said.consumer!r} said {said.stage} of {said.stream} {said.seq}, which is gone: no id")
        route = self.route(said.stream, known.subject)
        if route is None:
            return []
        place = said.stream, said.seq
        event = self._event(route.flow, said.hop, said.stage, place, known.headers, known.digest, known.size)
        told = {"deliveries": str(said.deliveries)}
        return [
            msgspec.structs.replace(
                event, observed_at=at, reason=said.reason, delivery=said.delivery, group=said.consumer, attributes=told
            )
        ]

    def _gone(self, gone: Gone, at: int) -> list[Range]:
        routes = {(r.flow, r.hop) for r in self.config.streams if r.stream == gone.place.stream}
        return [
            Range(
                flow=flow, hop=hop, stage=Stage.drop, reason=gone.reason, log=hop, partition=gone.place.stream,
                offset=gone.start, offset_to=gone.end, observed_from=min(gone.since, at), observed_at=at,
                evidence="range", node=self.config.node,
            )
            for flow, hop in sorted(routes)
        ]  # fmt: skip

    def _event(
        self, flow: str, hop: str, stage: Stage, place: tuple[str, int], headers: Mapping[str, bytes],
        digest: str, size: int,
    ) -> Event:  # fmt: skip
        said = said_of(headers, self.config.identity_header)
        stream, seq = place
        if not said.message_id:
            raise Undecodable(f"{stream} {seq} has neither a header {self.config.identity_header!r} nor {DEDUPLICATED}")
        return Event(
            flow=flow, message_id=said.message_id, hop=hop, stage=stage, observed_at=0, origin_at=said.origin_at,
            node=self.config.node, region=self.config.region, digest=digest, size=size, partition=stream, offset=seq,
            attempt=said.attempt, trace_id=said.trace_id, span_id=said.span_id, correlation_id=said.correlation_id,
            causation_id=said.causation_id, replay_id=said.replay_id,
        )  # fmt: skip
