"""What every instrumented client shares: events built from headers and payload, emitted, and never an exception.

A wrapper of one client library calls an `Observer` *before* it tells the broker (ack, commit), because `emit` has
the observation in the spool when it returns: a SIGKILL between the two leads to a redelivery, never to a hole.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from collectors.base import Lag
from collectors.carried import Carried, Headers, carried, digest_of, new_message_id, text
from collectors.clock import Clock, now_micros
from collectors.instrument.lines import Heads, Shared, shared_bytes
from collectors.logs import logger
from collectors.spool import REFUSED
from tracker.model.carry import MESSAGE_ID, ORIGIN_AT
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage

NAMELESS = b""
"""What the events of a message without an id share: nothing that a ledger could hold."""


class Emits(Protocol):
    """What an observer needs of `collectors.emitter.Emitter`."""

    def emit_line(self, line: bytes) -> int:
        """One event as a line of NDJSON: in the spool when this returns; `REFUSED` when there was no room."""
        ...

    def lost(self, count: int = 1) -> None:
        """Something happened that cannot be emitted: not vouched for."""
        ...

    def vouch(self, sources: Sequence[SourceRef], lag: Lag | None = None, at: int | None = None) -> None:
        """From now on everything that happens on these sources is emitted."""
        ...

    def sign_off(self, sources: Sequence[SourceRef]) -> None:
        """Nothing can happen on these sources any more."""
        ...


class Observed(msgspec.Struct):
    """Counters of one observer. `unnamed`: messages without an id, which no ledger can hold."""

    events: int = 0
    unnamed: int = 0
    errors: int = 0


def process_name() -> str:
    """This client process as a coverage source: `hostname:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def log_delivery(partition: str, offset: int, group: str = "", session: str = "") -> str:
    """The delivery of a log's record to a consumer: `topic/p:offset:group:session`. `session` is what changes when
    the record is handed over again (member id and generation)."""
    return f"{partition}:{offset}:{group}:{session}"


def stamped(headers: Headers, identity: str = MESSAGE_ID, clock: Clock = now_micros) -> dict[str, Any]:
    """The headers as a new dictionary, with message id and origin time added where they are absent."""
    out: dict[str, Any] = dict(headers.items() if isinstance(headers, Mapping) else headers or ())
    now = clock()
    if not out.get(identity):
        out[identity] = new_message_id(now).encode()
    if not out.get(ORIGIN_AT):
        out[ORIGIN_AT] = str(now).encode()
    return out


def stamped_pairs(headers: Any, identity: str = MESSAGE_ID) -> tuple[Any, Carried | None]:
    """As `stamped`, but pairs: Kafka allows a name twice. And what they carry now, read on the way (`Observer.share`).
    What the driver will refuse anyway is left as it is."""
    try:
        pairs = list(headers.items() if isinstance(headers, dict) else headers or ())
        last: dict[str, object] = dict(pairs)
        now = now_micros()
        if not last.get(identity):
            last[identity] = name = new_message_id(now)
            pairs.append((identity, name.encode()))
        if not last.get(ORIGIN_AT):
            last[ORIGIN_AT] = now
            pairs.append((ORIGIN_AT, str(now).encode()))
        return pairs, carried(last, identity)
    except (TypeError, ValueError):
        return headers, None


class Observer:
    """Observes one hop of one flow from inside a client process.

    `stages` are those that this client reports completely and so vouches for (a producer: produce; a consumer:
    deliver and ack), each announced as a source named `source` (default `hostname:pid`). `close` signs them off.
    The methods take headers as the client library holds them, never raise, and answer whether the event was taken.
    """

    def __init__(
        self,
        emitter: Emits,
        flow: str,
        hop: str,
        *,
        stages: Sequence[Stage] = (),
        node: str = "",
        region: str = "",
        identity_header: str = MESSAGE_ID,
        source: str = "",
        clock: Clock = now_micros,
    ) -> None:
        self.counts = Observed()
        self.identity_header = identity_header
        self._emitter, self._flow, self._hop, self._clock = emitter, flow, hop, clock
        self._emit, self._heads = emitter.emit_line, Heads(flow, hop, node, region)
        self._why: Exception | None = None  # the last message of which no line could be made
        self._sources = [SourceRef(flow, hop, stage.value, source or node or process_name()) for stage in stages]
        self._log = logger("collectors.instrument")
        if self._sources:
            emitter.vouch(self._sources)

    def stamp(self, headers: Headers) -> dict[str, Any]:
        """Headers to send: message id and origin time set (as bytes) where absent. Other values stay as they are."""
        return stamped(headers, self.identity_header, self._clock)

    def produce(self, headers: Headers, value: bytes | None, **where: Any) -> bool:
        """The broker confirmed the message (delivery report, confirm). `where`: see `observe`."""
        return self.observe(Stage.produce, headers, value, **where)

    def deliver(self, headers: Headers, value: bytes | None, **where: Any) -> bool:
        """The message was handed to the application. `where`: see `observe`."""
        return self.observe(Stage.deliver, headers, value, **where)

    def ack(self, headers: Headers, value: bytes | None, **where: Any) -> bool:
        """The application processed it; call this before the broker is told. `where`: see `observe`."""
        return self.observe(Stage.ack, headers, value, **where)

    def nack(self, headers: Headers, value: bytes | None, **where: Any) -> bool:
        """The application gave it back, to be delivered again. `where`: see `observe`."""
        return self.observe(Stage.nack, headers, value, **where)

    def dead_letter(self, headers: Headers, value: bytes | None, reason: str, **where: Any) -> bool:
        """It was parked; `reason="retry"` for a retry topic or queue. `where`: see `observe`."""
        return self.observe(Stage.dead_letter, headers, value, reason=reason, **where)

    def drop(self, headers: Headers, value: bytes | None, reason: str, **where: Any) -> bool:
        """This hop no longer holds it; `reason` is one of `DROP_REASONS`. `where`: see `observe`."""
        return self.observe(Stage.drop, headers, value, reason=reason, **where)

    def share(
        self,
        headers: Headers,
        value: bytes | None,
        *,
        delivery: str = "",
        partition: str = "",
        offset: int | None = None,
        group: str = "",
        session: str = "",
        key: object = None,
        message_id: str = "",
        digest: str | None = None,
        size: int | None = None,
        said: Carried | None = None,
    ) -> bytes | None:
        """What the events of one delivery of a message share, for `tell`, which may be called many times with it.

        `delivery` is taken as given; else, with `session`, it is `log_delivery` of partition, offset and group.
        `message_id` wins over the identity header (AMQP's own property). `digest` (empty: not known) and `size` are
        taken of `value` where they are not given, and what is carried of `headers` where `said` is not. `NAMELESS`
        where there is no id, None where it cannot be made: `tell` counts these. Never raises.
        """
        try:
            if said is None:
                said = carried(headers, self.identity_header)
            name = message_id or said.message_id
            if not name:
                return NAMELESS
            if not delivery and session and offset is not None:
                delivery = log_delivery(partition, offset, group, session)
            if digest is None:
                digest, size = digest_of(value), len(value or b"")
            return shared_bytes(
                Shared(
                    name, said.origin_at, delivery, digest, size, "" if key is None else text(key), partition, offset,
                    group, said.attempt, said.trace_id, said.span_id, said.correlation_id, said.causation_id,
                    said.replay_id,
                )
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            self.cannot(error)
            return None

    def cannot(self, error: Exception) -> None:
        """What there is to share, for a message that cannot be looked into: None, and `tell` says why. Never raises."""
        self._why = error

    def tell(
        self,
        stage: Stage,
        shared: bytes | None,
        *,
        observed_at: int | None = None,
        reason: str = "",
        attributes: dict[str, str] | None = None,
    ) -> bool:
        """Emit one event of a delivery; True when the spool has it. `observed_at` defaults to now. Never raises: a
        failure is counted in `counts.errors`, declared, so that nobody vouches for this time, and logged once."""
        try:
            if not shared:
                return self._unnamed(stage) if shared is not None else self._lost(stage, self._why)
            at = self._clock() if observed_at is None else observed_at
            if self._emit(self._heads.line(stage, at, shared, reason, attributes)) == REFUSED:
                return False  # the emitter has counted and declared it
        except Exception as error:  # noqa: BLE001 - the boundary to somebody's application
            return self._lost(stage, error)
        except BaseException:  # of a signal's handler, or a time limit of the application's own: it goes on its way
            with suppress(Exception):
                self._emitter.lost()
            raise
        self.counts.events += 1
        return True

    def observe(
        self,
        stage: Stage,
        headers: Headers,
        value: bytes | None,
        *,
        reason: str = "",
        observed_at: int | None = None,
        attributes: dict[str, str] | None = None,
        **shared: Any,
    ) -> bool:
        """`share` (`shared`: its arguments) and `tell` in one. True when the spool has the event. Never raises."""
        return self.tell(
            stage, self.share(headers, value, **shared), observed_at=observed_at, reason=reason, attributes=attributes
        )

    def close(self) -> None:
        """Sign off the sources: from here on this process vouches for nothing. Never raises."""
        sources, self._sources = self._sources, []
        try:
            if sources:
                self._emitter.sign_off(sources)
        except Exception as error:  # noqa: BLE001 - see observe
            self._failed("sign_off", error)

    def _lost(self, stage: Stage, error: Exception | None) -> bool:
        with suppress(Exception):
            self._emitter.lost()
        return self._failed(stage, error)

    def _unnamed(self, stage: Stage) -> bool:
        self.counts.unnamed += 1
        if self.counts.unnamed == 1:
            with suppress(Exception):  # the application's own log handlers may raise
                self._log.warning(
                    "message without an id: it cannot be tracked",
                    flow=self._flow, hop=self._hop, stage=stage.value, header=self.identity_header,
                )  # fmt: skip
        return False

    def _failed(self, stage: str, error: Exception | None) -> bool:
        self.counts.errors += 1
        if self.counts.errors == 1:
            with suppress(Exception):
                self._log.error(
                    "observation failed; the application goes on, the tracker will not see this event",
                    flow=self._flow, hop=self._hop, stage=str(stage), error=repr(error),
                )  # fmt: skip
        return False
