import gzip
import json

import httpx
import polars as pl
import pytest

from tests.component.api.conftest import NOW, SPEC
from tests.docs.pages import ROOT, blocks
from tracker.ingest import intake
from tracker.model.errors import Unavailable

REPORT = {"collector": "c", "epoch": 1, "sequence": 1, "events": 1}


def event(**changes):
    """A good event of the flow."""
    good = {"flow": "orders", "message_id": "m", "hop": "checkout", "stage": "produce", "observed_at": NOW}
    return good | changes


def ndjson(*events) -> bytes:
    """Events as lines."""
    return "\n".join(json.dumps(one) for one in events).encode()


@pytest.fixture
def ready(client):
    """A client of a tracker that knows the flow."""
    client.put("/v1/flows", content=SPEC).raise_for_status()
    return client


def test_good_batches_are_200_and_mixed_ones_207(ready, recorder):
    """The fixed answer: how many were stored, how many are in quarantine, and why, by line."""
    good = ready.post("/v1/events", content=ndjson(event(), event(message_id="n")))
    assert (good.status_code, good.json()) == (200, {"accepted": 2, "quarantined": 0, "errors": []})
    mixed = ready.post("/v1/events", content=ndjson(event(), event(stage="sent")))
    [error] = mixed.json()["errors"]
    assert (mixed.status_code, mixed.json()["accepted"], mixed.json()["quarantined"]) == (207, 1, 1)
    assert (error["line"], error["field"]) == (2, "stage")
    assert recorder.inserts == [("events", 2), ("events", 1), ("quarantine", 1), ("reports", 1)]


def test_arrays_and_compressed_bodies(ready):
    """A JSON array and a gzip body are batches like any other."""
    array = ready.post("/v1/events", json=[event(), event(message_id="n")])
    packed = ready.post("/v1/events", content=gzip.compress(ndjson(event())), headers={"Content-Encoding": "gzip"})
    assert (array.json()["accepted"], packed.json()["accepted"]) == (2, 1)


def test_the_example_of_an_arrow_stream(ready, recorder, monkeypatch, capsys):
    """As on the API page: its code is run, and its event is stored."""
    monkeypatch.setattr(httpx, "post", lambda url, **more: ready.post(url.partition(":8000")[2], **more))
    [example] = [code for code in blocks(ROOT / "docs" / "api.md", "python") if "pa.ipc" in code]
    exec(example, {})
    assert "'accepted': 1" in capsys.readouterr().out
    assert recorder.inserts == [("events", 1)]


def test_the_example_of_a_flow_that_asks(client):
    """As on the pages: the flow is put, the lines are sent, and the answer is the one that is shown."""
    [spec] = [text for text in blocks(ROOT / "docs" / "concepts.md", "yaml") if "\nschema:" in text]
    [sent] = [text for text in blocks(ROOT / "docs" / "ingest.md", "sh") if "<<'LINES'" in text]
    [shown] = [text for text in blocks(ROOT / "docs" / "ingest.md", "json") if "the schema of flow" in text]
    put = client.put("/v1/flows", content=spec)
    assert put.json()["spec"]["schema"][0]["attributes"] == ["payment_id", "tenant"]
    lines = sent.partition("<<'LINES'\n")[2].removesuffix("LINES\n")
    answer = client.post("/v1/events", content=lines.encode())
    assert (answer.status_code, answer.json()) == (207, json.loads(shown))


def test_a_parser_that_panics_refuses_the_body(ready, monkeypatch):
    """It is the body's fault until it is found out, and the next one is read as always."""

    def panic(*_):
        raise pl.exceptions.PanicException("out of range")

    with monkeypatch.context() as patch:
        patch.setattr(intake, "prepare", panic)
        refused = ready.post("/v1/events", content=ndjson(event()))
    assert refused.status_code == 400
    assert "out of range; nothing of it was stored" in refused.json()["detail"]
    assert ready.post("/v1/events", content=ndjson(event())).status_code == 200


def test_events_of_an_unknown_flow_are_kept_and_told(ready):
    """Nothing is lost: they are in quarantine, and the reason says which flow to put."""
    answer = ready.post("/v1/events", content=ndjson(event(flow="nope")))
    assert answer.status_code == 207
    assert "tracker flows put nope.yaml" in answer.json()["errors"][0]["reason"]


def test_a_report_comes_with_the_batch_or_alone(ready, recorder):
    """Coverage is stored after the events it vouches for; a heartbeat is a report alone."""
    ready.post("/v1/events", content=ndjson(event()), headers={"Tracker-Coverage": json.dumps(REPORT)})
    alone = ready.post("/v1/coverage", json=REPORT | {"sequence": 2})
    assert alone.status_code == 200
    assert recorder.inserts == [("events", 1), ("reports", 1), ("reports", 1)]
    refused = ready.post("/v1/coverage", json={"collector": "c"})
    assert (refused.status_code, "epoch" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"x" * 100_001, {}, 413),
        (gzip.compress(bytes(3 << 20)), {"Content-Encoding": "gzip"}, 413),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (b"{}", {"Content-Type": "application/xml"}, 415),
        (b"nonsense", {"Content-Encoding": "gzip"}, 400),
        (b"[1, ", {"Content-Type": "application/json"}, 400),
        (b"{}", {"X-Long": "x" * 300_000}, 431),
    ],
)
def test_what_cannot_be_read_is_refused_as_a_whole(ready, recorder, content, headers, status):
    """Too large, damaged or of an unknown kind: a problem with the right status, and nothing is stored."""
    refused = ready.post("/v1/events", content=content, headers=headers)
    assert (refused.status_code, refused.json()["status"]) == (status, status)
    assert recorder.inserts == []


def test_a_body_without_a_length_is_bounded_too(ready):
    """A stream that says nothing of its size is cut off at the bound."""
    refused = ready.post("/v1/events", content=(b"x" * 10_000 for _ in range(100)))
    assert refused.status_code == 413


def test_a_store_that_is_down_asks_to_come_back(ready, recorder):
    """503 with Retry-After: the sender keeps the batch and tries again."""
    recorder.refuse = lambda columns: Unavailable("the store is gone")
    answer = ready.post("/v1/events", content=ndjson(event()))
    assert (answer.status_code, answer.json()["detail"]) == (503, "the store is gone")
    assert int(answer.headers["retry-after"]) > 0


def test_batches_are_counted_by_flow(ready, client):
    """Metrics know what came in, by flow; what was refused, by status."""
    ready.post("/v1/events", content=ndjson(event(), event(message_id="n"), event(stage="sent")))
    ready.post("/v1/events", content=b"{}", headers={"Content-Encoding": "br"})
    ready.post("/v1/coverage", json={"collector": "c"})
    registry = ready.app.state.service.metrics.registry
    assert registry.get_sample_value("tracker_ingest_events_total", {"flow": "orders"}) == 2
    assert registry.get_sample_value("tracker_ingest_quarantined_total") == 1
    assert registry.get_sample_value("tracker_ingest_refused_total", {"status": "415", "reason": "request"}) == 1
    assert registry.get_sample_value("tracker_ingest_refused_total", {"status": "422", "reason": "request"}) == 1


def test_every_answer_tells_the_trackers_clock(ready):
    """When the request came and when it was answered, whatever the answer is: who asked can measure its clock."""
    for got in (ready.get("/healthz"), ready.post("/v1/events", content=ndjson(event())), ready.get("/v1/nothing")):
        received, answered = map(int, got.headers["Tracker-Clock"].split())
        assert NOW <= received <= answered
