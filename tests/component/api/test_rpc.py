"""OTLP traces over gRPC: the same spans, the same way in, the answers of gRPC. A real client talks to a real port."""

from __future__ import annotations

import gc
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.component.api.calls import Caller
from tests.component.api.talk import Client
from tests.unit.ingest.spans import ORDERS, SENT, body, span
from tests.unit.ingest.test_commit import Recorder
from tracker.api.service import Limits, Service
from tracker.model.errors import Unavailable

ID = {"messaging.message.id": "m-1"}
GOOD = body([span(SENT | ID)])
Code = grpc.StatusCode
CallerOf = Callable[..., Caller]


@pytest.fixture
def caller_of(client_of: Callable[..., Client]) -> Iterator[CallerOf]:
    """Makes callers of a tracker that reads spans and knows the flow."""
    made: list[Caller] = []

    def make(**changes: Any) -> Caller:
        client = client_of(**changes)
        service: Service = client.app.state.service
        assert client.app.state.exports.traces.wait(120)
        if service.insecure:
            client.put("/v1/flows", content=ORDERS).raise_for_status()
        made.append(Caller(client, service.limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def caller(caller_of: CallerOf) -> Caller:
    """A caller where nobody is asked for a token."""
    return caller_of(insecure=True)


def refusal(caller: Caller, sent: bytes, **options: Any) -> tuple[grpc.StatusCode, str, RetryInfo | None]:
    """Code, text and the delay that is asked for. What stands in the details is the same."""
    with pytest.raises(grpc.RpcError) as raised:
        caller.export(sent, **options)
    error: Any = raised.value
    trailers = dict(error.trailing_metadata())
    if "grpc-status-details-bin" not in trailers:  # gRPC's own answer
        return error.code(), error.details(), None
    told = Status.FromString(trailers["grpc-status-details-bin"])
    assert (told.code, told.message) == (error.code().value[0], error.details())
    info = RetryInfo()
    found = info if told.details and told.details[0].Unpack(info) else None
    assert trailers.get("google.rpc.retryinfo-bin") == (found and found.SerializeToString())
    return error.code(), error.details(), found


def metric(caller: Caller, name: str, **labels: str) -> float | None:
    """A sample of /metrics."""
    registry = caller.client.app.state.service.metrics.registry
    value: float | None = registry.get_sample_value(name, labels)
    return value


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_spans_about_messages_are_stored(caller: Caller, recorder: Recorder, compression: grpc.Compression) -> None:
    """All is well: an empty response; the rows are durable by then. Exporters compress when told to."""
    told = caller.export(body([span(SENT | ID), span({"http.request.method": "GET"}, "server", 2)] * 50), compression)
    assert (told, recorder.inserts) == (b"", [("events", 50)])


def test_an_empty_request_is_fine(caller: Caller) -> None:
    """The answer is a success, says the protocol."""
    assert caller.export(b"") == b""


def test_what_is_not_taken_is_a_partial_success(caller: Caller, recorder: Recorder) -> None:
    """As over HTTP, in the same message."""
    spans = [span(SENT | ID), span(SENT, number=2), span(SENT | {"messaging.message.id": "x" * 600}, number=3)]
    told = ExportTraceServiceResponse.FromString(caller.export(body(spans))).partial_success
    assert told.rejected_spans == 2
    assert "tracker.message_id" in told.error_message
    assert recorder.inserts == [("events", 1), ("quarantine", 1), ("reports", 1)]


@pytest.mark.parametrize("sent", [b"\x0a\xff", b"{", gzip.compress(GOOD)[:-9], b"\x1f\x8b"])
def test_bytes_that_cannot_be_read(caller: Caller, recorder: Recorder, sent: bytes) -> None:
    """INVALID_ARGUMENT with a reason; to send them again is of no use, so no delay is named."""
    code, text, delay = refusal(caller, sent)
    assert (code, bool(text), delay) == (Code.INVALID_ARGUMENT, True, None)
    assert recorder.inserts == []


def test_a_request_that_is_too_large(caller_of: CallerOf) -> None:
    """RESOURCE_EXHAUSTED without a delay: as it was sent, and when it is inflated, which ends at the bound."""
    caller = caller_of(insecure=True)
    assert refusal(caller, bytes(200_000))[::2] == (Code.RESOURCE_EXHAUSTED, None)
    code, text, delay = refusal(caller, bytes(50 << 20), compression=grpc.Compression.Gzip)
    assert (code, delay) == (Code.RESOURCE_EXHAUSTED, None)
    assert "1048576 bytes when inflated" in text


def test_a_compression_that_is_not_read(caller: Caller) -> None:
    """gRPC says so, and which ones are."""
    code, text, _ = refusal(caller, GOOD * 50, compression=grpc.Compression.Deflate)
    assert (code, "deflate" in text) == (Code.UNIMPLEMENTED, True)


def test_a_store_that_does_not_answer(caller: Caller, recorder: Recorder) -> None:
    """UNAVAILABLE, and when to come back."""
    recorder.refuse = lambda columns: Unavailable("down")
    code, text, delay = refusal(caller, GOOD)
    assert (code, text, delay.retry_delay.seconds) == (Code.UNAVAILABLE, "down", 2)
    assert metric(caller, "tracker_ingest_refused_total", status="503", reason="store") == 1


def test_a_long_reason_is_cut(caller: Caller, recorder: Recorder) -> None:
    """Clients refuse an answer with more than 8 KiB of headers, and would tell nobody why."""
    recorder.refuse = lambda columns: Unavailable("ü" * 10_000)
    assert refusal(caller, GOOD)[:2] == (Code.UNAVAILABLE, "ü" * 500)


def test_a_sender_that_is_too_fast(caller_of: CallerOf) -> None:
    """RESOURCE_EXHAUSTED with a delay: by that exporters know that it passes."""
    caller = caller_of(insecure=True, limits=Limits(rate_events=1))
    caller.export(body([span(SENT | ID, number=n) for n in range(1, 16)]))
    code, text, delay = refusal(caller, GOOD)
    assert (code, delay.retry_delay.seconds) == (Code.RESOURCE_EXHAUSTED, 10)
    assert "1 events a second" in text


@pytest.mark.parametrize("header", ["", "Basic x", "Bearer ", "Bearer trk_no"])
def test_a_token_is_asked_for(caller_of: CallerOf, recorder: Recorder, header: str) -> None:
    """Before a byte of the request is read."""
    metadata = [("authorization", header)] if header else []
    assert refusal(caller_of(), b"\x0a\xff", metadata=metadata)[0] == Code.UNAUTHENTICATED
    assert recorder.inserts == []


@pytest.mark.parametrize(("scope", "code"), [("ingest", None), ("read", Code.PERMISSION_DENIED)])
def test_a_token_needs_the_scope(caller_of: CallerOf, scope: str, code: grpc.StatusCode | None) -> None:
    """The same one as over HTTP."""
    caller = caller_of()
    service: Service = caller.client.app.state.service
    _, token = service.control.tokens.create("shop", {scope}, service.clock(), "test")
    metadata = [("authorization", f"Bearer {token}")]
    if code:
        assert refusal(caller, GOOD, metadata=metadata)[0] == code
    else:
        assert caller.export(GOOD, metadata=metadata) == b""


def test_other_services_are_not_here(caller: Caller) -> None:
    """An exporter of metrics that is sent to this port is told so, and does not try again."""
    with pytest.raises(grpc.RpcError) as raised:
        caller.call("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")(b"", timeout=30)
    assert raised.value.code() == Code.UNIMPLEMENTED


def test_a_bug_of_ours_is_told_as_one(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the log has."""
    monkeypatch.setattr(caller.client.app.state.exports.traces, "check", lambda: 1 / 0)
    code, text, _ = refusal(caller, GOOD)
    assert (code, "log" in text, "zero" in text) == (Code.INTERNAL, True, False)


def begins(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a call has its slot."""
    held = threading.Event()
    monkeypatch.setattr(caller.client.app.state.exports.traces, "check", held.set)
    return held


class TestSlow:
    def test_a_request_that_does_not_come(self, caller_of: CallerOf) -> None:
        """Nobody holds a slot for longer than a body may take; the code is one to try again after."""
        caller = caller_of(insecure=True, limits=Limits(read_seconds=0.2, ingest_slots=1))
        with caller.begun() as never, pytest.raises(grpc.RpcError) as raised:
            never()
        assert raised.value.code() == Code.DEADLINE_EXCEEDED
        assert caller.export(GOOD) == b""

    def test_all_slots_are_taken(self, caller_of: CallerOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """A slot is held from before the request is read; it is free again when the sender has gone."""
        caller = caller_of(insecure=True, limits=Limits(ingest_slots=1))
        held = begins(caller, monkeypatch)
        with caller.begun():
            assert held.wait(30)
            assert _code(caller) == Code.UNAVAILABLE
        caller.until(lambda: _code(caller) == Code.OK)

    def test_who_gives_up_before_anything_came(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nobody is left to hear why it was refused; it is counted, and no error of ours."""
        held = begins(caller, monkeypatch)
        with caller.begun():
            assert held.wait(30)
        caller.until(lambda: metric(caller, "tracker_ingest_refused_total", status="400", reason="request") == 1)
        caller.until(lambda: metric(caller, "tracker_grpc_requests_total", status="CANCELLED") == 1)
        gc.collect()
        assert caplog.text == ""

    def test_who_gives_up_is_counted_all_the_same(self, caller: Caller, recorder: Recorder) -> None:
        """What was begun will be stored: the metrics have it."""
        given_up(caller, recorder).set()
        caller.until(lambda: metric(caller, "tracker_ingest_events_total", flow="orders") == 1)


def given_up(caller: Caller, recorder: Recorder) -> threading.Event:
    """Somebody stopped waiting for his batch, which is on its way into the store until the event is set."""
    going, written = threading.Event(), threading.Event()

    def slowly(columns: Any) -> None:
        going.set()
        written.wait(30)

    recorder.refuse = slowly
    call = caller.call().future(GOOD)
    assert going.wait(30)
    call.cancel()
    caller.until(lambda: metric(caller, "tracker_grpc_requests_total", status="CANCELLED") == 1)
    return written


def _code(caller: Caller) -> grpc.StatusCode:
    try:
        caller.export(GOOD)
    except grpc.RpcError as error:
        refused: Any = error
        return refused.code()
    return Code.OK


def test_calls_are_counted(caller: Caller) -> None:
    """By code, and what became of spans as over HTTP."""
    caller.export(body([span(SENT | ID), span(SENT), span({}, "server")]))
    refusal(caller, b"\x0a\xff")
    codes = [metric(caller, "tracker_grpc_requests_total", status=code) for code in ("OK", "INVALID_ARGUMENT")]
    spans = [metric(caller, "tracker_otlp_spans_total", outcome=one) for one in ("event", "other", "no_id")]
    assert (codes, spans) == ([1, 1], [1, 1, 1])
    assert metric(caller, "tracker_ingest_refused_total", status="400", reason="request") == 1


def test_two_trackers_do_not_share_a_port(caller: Caller, caller_of: CallerOf) -> None:
    """gRPC would let them, and each would get some of the spans. Who comes second is told which port, and where it is
    set."""
    told = rf"127\.0\.0\.1:{caller.port} .*'sport = :{caller.port}'.* TRACKER_OTLP_GRPC_PORT"
    with pytest.raises(Unavailable, match=told):
        Caller(caller.client, Limits(), caller.port)


def test_open_calls_may_end(caller: Caller, recorder: Recorder) -> None:
    """Who is in work when the service stops is answered."""
    going = threading.Event()
    recorder.refuse = lambda columns: going.set()
    call = caller.call().future(GOOD)
    assert going.wait(30)
    caller.stop()
    assert call.result(30) == b""


def test_what_was_begun_for_who_gave_up_ends_before_the_store_closes(caller: Caller, recorder: Recorder) -> None:
    """No call is open any more, but a batch is on its way into the store: stopping waits until it is there and
    counted."""
    threading.Timer(0.3, given_up(caller, recorder).set).start()
    caller.stop()
    assert metric(caller, "tracker_ingest_events_total", flow="orders") == 1


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.builds(lambda cut, put: GOOD[:cut] + put + GOOD[cut:], st.integers(0, len(GOOD)), st.binary(max_size=9))
    | st.builds(lambda put: gzip.compress(GOOD + put)[:-1] + put, st.binary(max_size=9))
)
def test_any_bytes(caller: Caller, sent: bytes) -> None:
    """Taken, or refused with a reason."""
    try:
        ExportTraceServiceResponse.FromString(caller.export(sent))
    except grpc.RpcError as error:
        refused: Any = error
        assert (refused.code(), len(refused.details()) > 10) == (Code.INVALID_ARGUMENT, True)


@pytest.mark.parametrize(
    "sent", [b"", b"\x00" * 100, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_what_is_no_call(caller: Caller, sent: bytes) -> None:
    """Whoever speaks something else is let go of, and others are served."""
    with closing(socket.create_connection(("127.0.0.1", caller.port), 30)) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass
    assert caller.export(GOOD) == b""
