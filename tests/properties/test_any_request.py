"""Whatever a client sends: 2xx, 207 or 4xx with a reason; never 5xx, and nothing that was accepted is missing.

Against the app itself on the embedded engine, with the threads that a service has.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import tenacity
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.component.api.talk import Client
from tests.world.formats import FORMATS
from tracker.api.app import create_app
from tracker.cli.compose import Ports, composed
from tracker.cli.settings import ServiceSettings
from tracker.model.event import Stage

AT = 1_795_000_000_000_000
SPEC = """flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: billing, stage: ack, after: checkout, within: 1h}
"""
GOOD: list[dict[str, Any]] = [
    {"flow": "orders", "message_id": f"m-{n}", "hop": "checkout", "stage": str(stage), "observed_at": AT + n,
     "origin_at": AT, "node": "c-1", "digest": f"{n:016x}", "partition": "orders/0", "offset": n, "size": 7,
     "reason": "expired", "trace_id": f"{n:032x}"}
    for n, stage in enumerate([Stage.produce, Stage.ack, Stage.drop])
]  # fmt: skip
RANGE = {
    "evidence": "range", "flow": "orders", "hop": "billing", "stage": "ack", "log": "kafka", "partition": "orders/0",
    "offset": 1, "offset_to": 9, "observed_from": AT, "observed_at": AT,
}  # fmt: skip
REPORT = {"collector": "c", "epoch": 1, "sequence": 1, "events": 3, "lag_ms": 1, "sources": [
    {"flow": "orders", "hop": "billing", "stage": "ack", "source": "s"}]}  # fmt: skip
CORPUS = [
    *(form.body(GOOD) for form in FORMATS.values()),
    FORMATS["ndjson"].body([*GOOD, RANGE]),
    FORMATS["arrow"].body([RANGE]),
    json.dumps(REPORT).encode(),
]
SPICE = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\r", b"\x85", "\u2028".encode(), b'"', b"\\",
    b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b"[" * 3000, b'{"a":' * 3000, b",", b":", b"null", b"NaN", b"1e999",
    b"-0", b"9" * 400, b"1" * 19, b"0." + b"3" * 400, b'"flow":', b'"attributes":{"a":[]},', b'"observed_at":{},',
    b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x80" * 11, b"\xff\xff\xff\x7f", bytes(8),
    b"x" * 100_000,
]  # fmt: skip
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
"""How gzip, zstd and zlib begin."""
TYPES = [*(form.content_type for form in FORMATS.values()), "", "text/plain", "application/json; charset=utf-16", "*"]
PATHS = ["/v1/events", "/v1/traces", "/v1/coverage"]
sane = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a service with small bounds."""
    folder = tmp_path_factory.mktemp("service")
    bounds = ServiceSettings(store=f"chdb://{folder}/ledger", inflated_mb=2, body_mb=1, commit_wait_ms=0)
    with composed(bounds, True, Ports({}, {})) as service:
        made = Client(create_app(service))
        _readied(made)
        yield made
        made.close()


def _readied(client: Client) -> None:
    """Returns when the flow is known and spans are read: a disk that stalls, and what is made ready once, tell a client
    to come back."""
    form = FORMATS["otlp"]
    put = _patiently(lambda: client.put("/v1/flows/orders", content=SPEC))
    assert put.status_code == 201, put.text
    _patiently(lambda: client.post(form.path, content=form.body(GOOD), headers=form.headers))


def _patiently(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The first answer that is not to come back."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda answer: answer.status_code == 503),
        stop=tenacity.stop_after_delay(60),
        wait=tenacity.wait_fixed(0.1),
    )(ask)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """Good bodies with bytes flipped, cut out, put in, copied, and pieces of other bodies."""
    body = bytearray(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(0, 4))):
        if not body:
            break
        first = draw(st.integers(0, len(body) - 1))
        last = draw(st.integers(first, min(len(body), first + draw(st.sampled_from([1, 8, 10_000])))))
        match draw(st.integers(0, 5)):
            case 0:
                body[first] ^= draw(st.integers(1, 255))
            case 1:
                del body[first:last]
            case 2:
                body[first:first] = draw(st.sampled_from(SPICE))
            case 3:
                body[first:last] = draw(st.sampled_from(SPICE))
            case 4:
                body[first:first] = body[first:last] * draw(st.integers(1, 3))
            case _:
                other = draw(st.sampled_from(CORPUS))
                body[first:] = other[draw(st.integers(0, len(other))) :]
    return bytes(body)


@st.composite
def packed(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and its encoding, which is not always the truth, nor always whole."""
    body = draw(mutants() | st.binary(max_size=50))
    said = draw(st.sampled_from(["", "gzip", "zstd", "identity", "br", "gzip, zstd"]))
    match draw(st.sampled_from([said, said, "gzip", "zstd", "both"])):
        case "gzip":
            body = gzip.compress(body, 1)
        case "zstd":
            body = zstandard.compress(body)
        case "both":
            body = gzip.compress(zstandard.compress(body), 1)
    return body[: draw(st.sampled_from([len(body)] * 4 + [len(body) // 2]))], said


headers = st.sampled_from(["", json.dumps(REPORT), "{", "[" * 3000, "null", '{"epoch": 1e400}']) | st.text(
    st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=50
)


def sent(client: Client, path: str, body: bytes, kind: str, encoding: str, coverage: str) -> httpx.Response:
    """The answer; it must be one that tells a client what to do."""
    said = {"Content-Type": kind, "Content-Encoding": encoding, "Tracker-Coverage": coverage}
    raw = {name: value.encode("latin-1") for name, value in said.items() if value}
    answer = client.post(path, content=body, headers=raw)
    assert answer.status_code in (200, 207, 400, 408, 413, 415, 422, 431), (answer.status_code, answer.content[:500])
    if answer.status_code >= 400:
        assert len(answer.content) > 20
    return answer


@sane
@given(st.sampled_from(PATHS), packed(), st.sampled_from(TYPES), headers)
def test_any_request_is_answered(client: Client, path: str, body: tuple[bytes, str], kind: str, coverage: str) -> None:
    """Any bytes under any headers."""
    sent(client, path, body[0], kind, body[1], coverage)


@sane
@given(mutants(), st.sampled_from(sorted(FORMATS)))
def test_any_change_of_a_good_body(client: Client, body: bytes, name: str) -> None:
    """As what it nearly is: taken, line by line, or refused; a 207 lists what is wrong, a 200 has nothing to list."""
    form = FORMATS[name]
    answer = sent(client, form.path, body, form.content_type, "", "")
    if form.path == "/v1/events" and answer.status_code < 300:
        told = answer.json()
        assert (answer.status_code == 207) == bool(told["errors"])
        assert told["quarantined"] <= 1000 or len(told["errors"]) == 1000


@pytest.mark.parametrize("name", FORMATS)
def test_the_good_bodies_are_good(client: Client, name: str) -> None:
    """Otherwise their mutants would prove little."""
    form = FORMATS[name]
    assert sent(client, form.path, form.body(GOOD), form.content_type, "", "").status_code == 200


@pytest.mark.parametrize("begin", COMPRESSED[:2])
def test_a_line_that_looks_compressed(client: Client, begin: bytes) -> None:
    """Nobody inflates a body, or a line of it, unless its Content-Encoding says so: it is a bad line like any other."""
    good = FORMATS["ndjson"].body(GOOD)
    told = sent(client, "/v1/events", begin + b"\x00\x00\n" + good, "application/x-ndjson", "", "").json()
    assert told["accepted"] == len(GOOD)
