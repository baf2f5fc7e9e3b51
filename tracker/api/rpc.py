"""OTLP traces over gRPC (https://opentelemetry.io/docs/specs/otlp/#otlpgrpc): the same way in as over HTTP.

No generated code: a request is taken as bytes and goes to the walk that reads the body of an HTTP request, and so does
its compression, so the same bounds hold. It is read as a stream of one message, because a message of a unary call is
read before anybody can be asked for a token or a slot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import grpc
import grpc.aio
import structlog

from tracker.api.auth import known
from tracker.api.exports import Exports
from tracker.api.problem import Problem
from tracker.control.errors import ControlError
from tracker.ingest.otlp import answer
from tracker.model.errors import TrackerError, Unavailable
from tracker.slo.metrics import RPC_SECONDS, RPCS

log = structlog.get_logger()

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CONNECTIONS, CALLS, STREAMS = 1000, 1000, 100
"""At once: connections, calls of all of them, and of each."""
IDLE_S, ALIVE_S = 300, 60
"""Seconds after which a connection without a call is closed, and after which the other side of a silent one is asked
whether it lives."""
PINGS_S = 10
"""A sender may ask so often whether we live, as that of Go does; gRPC by itself lets go of one that asks in 300 s."""
GZIP = b"\x1f\x8b"
"""How gzip begins, and no message of protobuf can: 0x1f would be a field of wire type 7, which there is none of."""
MOST = (1 << 31) - 1
"""The largest bound that gRPC knows."""
_IDENTITY_AND_GZIP = 0b101
CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Answer:
    code: grpc.StatusCode
    response: bytes
    text: str = ""
    trailers: Sequence[tuple[str, bytes]] = ()


class Receiver:
    """Listens on `address` (host:port) from `start` to `stop`, on the event loop that calls them."""

    def __init__(self, exports: Exports, address: str) -> None:
        self._exports, self._address = exports, address
        self._server: grpc.aio.Server | None = None
        self._work: set[asyncio.Task[_Answer]] = set()

    async def start(self) -> int:
        """The port. Raises Unavailable when it is taken."""
        limits = self._exports.service.limits
        options: list[tuple[str, Any]] = [
            ("grpc.so_reuseport", 0),  # two trackers on one port would share the senders between them unseen
            ("grpc.max_receive_message_length", min(limits.body, MOST)),
            ("grpc.per_message_decompression", 0),
            ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.max_allowed_incoming_connections", CONNECTIONS),
            ("grpc.server_handshake_timeout_ms", int(limits.read_seconds * 1000)),
            ("grpc.max_connection_idle_ms", IDLE_S * 1000),
            ("grpc.keepalive_time_ms", ALIVE_S * 1000),
            ("grpc.http2.min_ping_interval_without_data_ms", PINGS_S * 1000),
        ]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=CALLS)
        service, _, method = EXPORT[1:].partition("/")
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.stream_unary_rpc_method_handler(self._export)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:  # all that gRPC says of it
            port = int(self._address.rpartition(":")[2])
            raise Unavailable(
                f"cannot listen on {self._address} for OTLP over gRPC, somebody took it in the last moment: "
                f"`ss -ltnp 'sport = :{port}'` says who; or choose another with TRACKER_OTLP_GRPC_PORT"
            ) from error
        await self._server.start()
        return port

    async def stop(self, grace: float) -> None:
        """Take nothing new; calls that are open get `grace` seconds to end, and then what was begun for callers who
        are gone as many: whoever closes the store afterwards must not close it under a batch on its way there."""
        if self._server is not None:
            await self._server.stop(grace)
        if self._work:
            _, left = await asyncio.wait(self._work, timeout=grace)
            if left and grace:
                log.warning("grpc_calls_left", calls=len(left), waited_s=grace, next="their senders send them again")

    async def _export(self, _: Any, context: Context) -> bytes:
        """A sender that gives up does not stop what was begun: its batch holds a slot until it is done with, and what
        is stored is counted."""
        began = time.monotonic()
        code = grpc.StatusCode.CANCELLED
        work = asyncio.create_task(self._answer(context))
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        try:
            told = await asyncio.shield(work)
            code = told.code
        finally:
            metrics = self._exports.service.metrics
            metrics.count(RPCS, 1, code.name)
            metrics.observe(RPC_SECONDS, time.monotonic() - began)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, told.text, tuple(told.trailers))
        return told.response

    async def _answer(self, context: Context) -> _Answer:
        """Raises nothing, for there may be nobody left to hear it."""
        try:
            return _Answer(grpc.StatusCode.OK, await self._take(context))
        except (TrackerError, ControlError, Problem) as error:
            status, wait = self._exports.refused(error)
            number, text, trailers = answer.rpc_status(status, str(error), wait)
        except Exception:  # as over HTTP: the caller is told that it is our fault, the log has the rest
            log.exception("grpc_call_failed", method=EXPORT)
            number, text, trailers = answer.rpc_status(500, "an error of the tracker's own; its log has more", None)
        return _Answer(CODES[number], b"", text, trailers)

    async def _take(self, context: Context) -> bytes:
        service = self._exports.service
        authorization = dict(context.invocation_metadata() or ()).get("authorization", "")
        by = await anyio.to_thread.run_sync(known, service, str(authorization), "ingest")
        taken = await self._exports.take(by, answer.PROTOBUF, _sent(context, service.limits.read_seconds))
        return answer.response(answer.PROTOBUF, taken.rejected, taken.why)


def _sent(context: Context, seconds: float) -> Callable[[], Awaitable[tuple[bytes, str]]]:
    """Reads the one message. Raises Problem: 408 when it comes too slowly, 400 when there is none or another one."""

    async def read() -> tuple[bytes, str]:
        try:
            async with asyncio.timeout(seconds):
                body: Any = await context.read()
                more: Any = grpc.aio.EOF if body is grpc.aio.EOF else await context.read()
        except TimeoutError:
            raise Problem(408, f"the request did not come within {seconds:g} s; nothing of it was stored") from None
        if not isinstance(body, bytes) or more is not grpc.aio.EOF:
            raise Problem(400, f"a call of {EXPORT} has one message, whole; nothing of it was stored")
        return body, "gzip" if body.startswith(GZIP) else ""

    return read
