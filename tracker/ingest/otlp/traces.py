"""OTLP bodies -> events, for as long as the service runs: keeps the reader that fits the flow specs of the moment, and
gets the compiled code ready without making anybody wait.

Compiled code that was kept on disk is loaded in a second or so; where it was not (the first start after an upgrade, a
folder that cannot be written), it takes ten. That begins when a flow matches spans or the first body comes, in a thread
of its own. Until then senders are told to come back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from tracker.ingest.decoded import Decoded
from tracker.ingest.errors import Busy, Unsupported
from tracker.ingest.otlp.account import Account
from tracker.ingest.otlp.answer import JSON, PROTOBUF
from tracker.ingest.otlp.jsoned import protobuf
from tracker.ingest.otlp.read import Reader
from tracker.model.spec import FlowSpec, load_spec

log = structlog.get_logger()

_FIRST_SPEC = """flow: first
checkpoints: [{hop: a, stage: produce, match: {service: a}}]"""
_FIRST_BODY = b"""{"resourceSpans": [{
"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "a"}}]},
"scopeSpans": [{"spans": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "kind": 4,
"startTimeUnixNano": "1800000000000000000", "endTimeUnixNano": "1800000000000000001", "attributes": [
{"key": "messaging.message.id", "value": {"stringValue": "0af76519-16cd-43dd"}},
{"key": "messaging.kafka.offset", "value": {"intValue": "7"}}]}]}]}]}"""
"""Makes every compiled function run once."""


class Described(Protocol):
    """What is asked of a flow."""

    @property
    def spec(self) -> FlowSpec:
        """Its newest spec."""


class Traces:
    """`flows()` gives every known flow; the same mapping while nothing changed. Thread-safe."""

    def __init__(self, flows: Callable[[], Mapping[str, Described]]) -> None:
        self._flows = flows
        self._lock = threading.Lock()
        self._ready, self._failed = threading.Event(), ""
        self._thread: threading.Thread | None = None
        self._read: tuple[Mapping[str, Described], Reader] | None = None

    def expect(self) -> None:
        """Begin to get ready if some flow takes spans."""
        flows = self._flows().values()
        if any(point.match and point.match.spans for flow in flows for point in flow.spec.checkpoints):
            self.start()

    def start(self) -> None:
        """Begin to get ready, unless that was begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._compile, name="otlp-compile", daemon=True)
                self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """True once ready."""
        self.start()
        return self._ready.wait(seconds)

    def check(self) -> None:
        """Raises Busy while not ready: who sends has to come back."""
        self.start()
        if self._failed:
            raise Busy(f"spans cannot be read here: {self._failed}; the tracker's log has more. Events over "
                       "/v1/events are taken", "spans")  # fmt: skip
        if not self._ready.is_set():
            again = "the reader of spans is being made ready, which takes seconds once; send this again in a moment"
            raise Busy(again, "starting")

    def read(
        self, body: bytes, media_type: str, flows: Mapping[str, Described] | None = None
    ) -> tuple[Decoded, Account]:
        """The events of an inflated body, and what became none; `flows` where somebody asked for them already. Raises
        Refused."""
        if media_type == JSON:
            body = protobuf(body)
        return self._reader(self._flows() if flows is None else flows).read(body)

    def _reader(self, flows: Mapping[str, Described]) -> Reader:
        held = self._read
        if held is None or held[0] is not flows:
            held = flows, Reader([described.spec for described in flows.values()])
            self._read = held
        return held[1]

    def _compile(self) -> None:
        try:
            Reader([load_spec(_FIRST_SPEC)]).read(protobuf(_FIRST_BODY))
        except Exception as error:  # the top of a thread: whatever the compiler raises, senders must be told
            self._failed = f"{type(error).__name__}: {error}"
            log.exception("otlp_reader_failed")
        else:
            self._ready.set()


def media_type(content_type: str) -> str:
    """PROTOBUF or JSON. Raises Unsupported for any other."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (PROTOBUF, JSON):
        return kind
    raise Unsupported(f"Content-Type {kind!r} is not read here; spans come as {PROTOBUF} or {JSON}")
