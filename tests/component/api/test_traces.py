"""OTLP traces over HTTP: what is taken, what is answered, what is told of the rest."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.component.api.talk import Client
from tests.unit.ingest.spans import ORDERS, PROCESSED, SENT, body, span
from tests.unit.ingest.test_commit import Recorder
from tracker.model.errors import Unavailable
from tracker.model.spec import load_spec

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
ID = {"messaging.message.id": "m-1"}


def said(resource: dict[str, str], attributes: dict[str, str]) -> bytes:
    """A span in OTLP's JSON."""
    listed = lambda found: [{"key": k, "value": {"stringValue": v}} for k, v in found.items()]  # noqa: E731
    one = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "kind": 4,
           "startTimeUnixNano": "1800000000000000000", "endTimeUnixNano": "1800000000000000000",
           "attributes": listed(attributes)}  # fmt: skip
    group = {"resource": {"attributes": listed(resource)}, "scopeSpans": [{"spans": [one]}]}
    return json.dumps({"resourceSpans": [group]}).encode()


def made_ready(client: Client) -> Client:
    """The compiled code is loaded, the flow is known."""
    assert client.app.state.exports.traces.wait(120)
    client.put("/v1/flows", content=ORDERS).raise_for_status()
    return client


@pytest.fixture
def ready(client: Client) -> Client:
    """A client of a tracker that reads spans."""
    return made_ready(client)


def test_spans_about_messages_are_stored(ready: Client, recorder: Recorder) -> None:
    """All is well: an empty response, in protobuf; the rows are durable by then."""
    spans = [span(SENT | ID), span({"http.request.method": "GET"}, "server", 2)]
    got = ready.post("/v1/traces", content=body(spans), headers=PROTOBUF)
    assert (got.status_code, got.content, got.headers["content-type"]) == (200, b"", "application/x-protobuf")
    assert recorder.inserts == [("events", 1)]


def test_json_is_answered_in_json(ready: Client, recorder: Recorder) -> None:
    """OTLP's JSON: ids as hex, 64-bit numbers as text."""
    content = said({"service.name": "checkout"}, SENT | ID)
    got = ready.post("/v1/traces", content=content, headers=JSON | {"Content-Type": "application/json; charset=utf-8"})
    assert (got.status_code, got.json(), recorder.inserts) == (200, {}, [("events", 1)])


def test_compressed_bodies(ready: Client, recorder: Recorder) -> None:
    """Exporters send gzip when told to."""
    packed = gzip.compress(body([span(SENT | ID)]))
    assert ready.post("/v1/traces", content=packed, headers=PROTOBUF | {"Content-Encoding": "gzip"}).status_code == 200
    assert recorder.inserts == [("events", 1)]


def test_what_is_not_taken_is_a_partial_success(ready: Client, recorder: Recorder) -> None:
    """How many spans, and what to do; a client must not send them again."""
    spans = [span(SENT | ID), span(SENT, number=2), span(SENT | {"messaging.message.id": "x" * 600}, number=3)]
    got = ready.post("/v1/traces", content=body(spans), headers=PROTOBUF)
    told = ExportTraceServiceResponse.FromString(got.content).partial_success
    assert (got.status_code, told.rejected_spans) == (200, 2)
    assert "tracker.message_id" in told.error_message
    assert "message_id has 600 bytes" in told.error_message
    assert recorder.inserts == [("events", 1), ("quarantine", 1), ("reports", 1)]
    as_json = ready.post("/v1/traces", content=said({"service.name": "checkout"}, SENT), headers=JSON).json()
    assert as_json["partialSuccess"]["rejectedSpans"] == "1"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"\x0a\xff", PROTOBUF, 400, 3),
        (b"{", JSON, 400, 3),
        (b"x", {"Content-Type": "text/plain"}, 415, 3),
        (b"x", PROTOBUF | {"Content-Encoding": "br"}, 415, 3),
        (gzip.compress(bytes(2 << 20)), PROTOBUF | {"Content-Encoding": "gzip"}, 413, 3),
    ],
)
def test_refusals(ready: Client, content: bytes, headers: dict[str, str], status: int, code: int) -> None:
    """By status, with a google.rpc.Status in the encoding of the request."""
    got = ready.post("/v1/traces", content=content, headers=headers)
    assert got.status_code == status
    if headers is JSON:
        assert got.json()["code"] == code
    else:
        told = Status.FromString(got.content)
        assert (told.code, bool(told.message)) == (code, True)
    assert "retry-after" not in got.headers


def test_a_store_that_does_not_answer(ready: Client, recorder: Recorder) -> None:
    """503 with Retry-After: exporters come back."""
    recorder.refuse = lambda columns: Unavailable("down")
    got = ready.post("/v1/traces", content=body([span(SENT | ID)]), headers=PROTOBUF)
    assert (got.status_code, got.headers["retry-after"], Status.FromString(got.content).code) == (503, "2", 14)


def test_before_the_code_is_compiled(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a compiler: come back; and where it fails for good the answer says so."""
    traces = client.app.state.exports.traces
    monkeypatch.setattr(traces, "start", lambda: None)
    got = client.post("/v1/traces", content=b"", headers=PROTOBUF)
    assert (got.status_code, got.headers["retry-after"]) == (503, "2")
    assert "made ready" in Status.FromString(got.content).message
    monkeypatch.setattr(traces, "_failed", "ImportError: no numba")
    got = client.post("/v1/traces", content=b"", headers=PROTOBUF)
    assert "no numba" in Status.FromString(got.content).message


def test_a_token_is_asked_for(client_of: Callable[..., Client]) -> None:
    """As for events."""
    assert client_of().post("/v1/traces", content=b"", headers=PROTOBUF).status_code == 401


def test_specs_count_from_when_they_are_put(ready: Client, recorder: Recorder) -> None:
    """The next body is read by them."""
    bills = body([span(SENT | ID | {"messaging.destination.name": "bills"})])
    ready.post("/v1/traces", content=bills, headers=PROTOBUF)
    ready.put("/v1/flows", content=ORDERS.replace("flow: orders", "flow: bills").replace("n: orders", "n: bills"))
    ready.post("/v1/traces", content=bills, headers=PROTOBUF)
    assert recorder.inserts == [("events", 1)]


class TestDiscovered:
    def send(self, ready: Client, said: dict[str, Any], service: str, kind: str = "producer") -> None:
        """One span."""
        ready.post("/v1/traces", content=body([span(said | ID, kind)], service), headers=PROTOBUF)

    def test_what_no_flow_takes_is_offered_as_one(self, ready: Client) -> None:
        """Counted by what it says; the draft is a spec that can be put and takes it."""
        bills = {"messaging.destination.name": "bills.v1"}
        for _ in range(2):
            self.send(ready, SENT | bills, "till")
        self.send(ready, PROCESSED | bills, "ledger service", "consumer")
        found = ready.get("/v1/flows/discovered").json()
        assert [(i["service"], i["operation"], i["count"], i["samples"]) for i in found["items"]] == [
            ("till", "send", 2, ["m-1"]), ("ledger service", "process", 1, ["m-1"])]  # fmt: skip
        [draft] = found["drafts"]
        spec = load_spec(draft)
        assert [c.name for c in spec.checkpoints] == ["till:produce", "ledger-service:ack"]
        assert ready.put("/v1/flows", content=draft).status_code == 201
        ready.delete("/v1/flows/discovered")
        self.send(ready, SENT | bills, "till")
        assert ready.get("/v1/flows/discovered").json() == {"items": [], "drafts": []}

    def test_a_place_in_a_log_is_no_id(self, ready: Client) -> None:
        """What instrumentations of Kafka call a message's id no producer knows: the draft asks for another."""
        said = {"messaging.destination.name": "bills.v1", "messaging.message.id": "bills.v1.3.42"}
        ready.post("/v1/traces", content=body([span(PROCESSED | said, "consumer")], "till"), headers=PROTOBUF)
        [draft] = ready.get("/v1/flows/discovered").json()["drafts"]
        assert load_spec(draft).identity.attribute == "tracker.message_id"
        assert "have both set tracker.message_id" in draft

    def test_what_matches_and_tells_nothing_is_shown_too(self, ready: Client) -> None:
        """With the flow it belongs to, and no draft."""
        ready.post("/v1/traces", content=body([span(SENT)]), headers=PROTOBUF)
        found = ready.get("/v1/flows/discovered").json()
        assert [(i["reason"], i["flow"]) for i in found["items"]] == [("no_id", "orders")]
        assert found["drafts"] == []

    def test_names_that_no_spec_could_have(self, ready: Client) -> None:
        """Whatever clients call things, drafts can be read."""
        for name in ("/", "a b", "ü" * 300, "{x}: [", "reply-\n"):
            self.send(ready, SENT | {"messaging.destination.name": name}, f"service {name}")
        drafts = ready.get("/v1/flows/discovered").json()["drafts"]
        assert len([load_spec(draft) for draft in drafts]) == 5
        assert all(yaml.safe_load(draft)["checkpoints"][0]["stage"] == "produce" for draft in drafts)

    def test_counts_outlive_the_service(self, service_of: Callable[..., Any], client_of: Callable[..., Client]) -> None:
        """They are kept in the control database."""
        first = made_ready(client_of(insecure=True))
        self.send(first, SENT | {"messaging.destination.name": "bills"}, "till")
        first.app.state.service.discovered.flush()
        [item] = client_of(insecure=True).get("/v1/flows/discovered").json()["items"]
        assert (item["service"], item["count"]) == ("till", 1)


def test_what_became_of_spans_is_a_metric(ready: Client) -> None:
    """By outcome."""
    ready.post("/v1/traces", content=body([span(SENT | ID), span(SENT), span({}, "server")]), headers=PROTOBUF)
    sample = ready.app.state.service.metrics.registry.get_sample_value
    outcomes = ("event", "other", "no_id", "no_flow")
    assert [sample("tracker_otlp_spans_total", {"outcome": one}) for one in outcomes] == [1, 1, 1, 0]
