"""At least once on the way, exactly once in every count: whatever is sent again, in whatever batches."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from tests.e2e.service import Service, now_us
from tests.world.formats import FORMATS, Format

SPEC = """flow: {flow}
checkpoints:
  - {{hop: checkout, stage: produce}}
  - {{hop: kafka-eu, stage: persist, after: checkout, within: 1s}}
  - {{hop: kafka-us, stage: replicate, after: kafka-eu, within: 1h, same_payload: true}}
  - {{hop: billing, stage: ack, after: kafka-eu, within: 1h, at_most: 1}}
objectives:
  delivery: {{target: 99%, window: 1d}}
"""
COUNTED = re.compile(r'^(tracker_(?:messages|findings|conservation_difference|delivery_ratio)\{[^}]*flow="%s".*)$')
"""Metrics that count messages; `%s` is the flow."""

TEXTS = ("json", "otlp-json")
"""Formats that become one of the others before anything is read: tried in `make test-long`."""
BINARY = tuple(name for name in FORMATS if name not in TEXTS)

GAUGED = ("tracker_counted_timestamp_seconds", "tracker_slo_timestamp_seconds")
"""When messages, and when objectives, were counted last: each has a pace of its own."""

LOST = 4
"""So many messages of the story are."""

Event = Mapping[str, Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service, with a flow of its own for each format."""
    running = Service(tmp_path_factory.mktemp("service"), "--insecure").start()
    yield running
    running.close()


def story(flow: str, at: int) -> list[Event]:
    """Messages of every kind: whole, acked twice by two deliveries, never persisted, corrupted, without a produce, dead
    letters; with partitions and offsets or with a delivery of their own."""
    made: list[Event] = []
    for n in range(24):
        kind = ("whole", "whole", "twice", "lost", "corrupt", "orphan")[n % 6]
        known = {"flow": flow, "message_id": f"{kind}-{n}", "origin_at": at + n, "trace_id": f"{n:032x}"}
        placed = {"partition": f"{flow}/0", "offset": n, "digest": f"{n + 1:016x}"}
        if kind != "orphan":
            made.append(known | {"hop": "checkout", "stage": "produce", "observed_at": at + n, "node": "c-1"})
        if kind == "lost":
            continue
        made.append(known | placed | {"hop": "kafka-eu", "stage": "persist", "observed_at": at + n + 10})
        copied = placed | {"digest": "00000000000000ff"} if kind == "corrupt" else placed
        made.append(known | copied | {"hop": "kafka-us", "stage": "replicate", "observed_at": at + n + 20})
        acked = known | {"hop": "billing", "stage": "ack", "node": "pod-7", "group": "billing"}
        made.append(acked | {"delivery": "d-1", "observed_at": at + n + 30})
        if kind == "twice":
            made.append(acked | {"delivery": "d-2", "observed_at": at + n + 40})
    return made


class Tale:
    """One format with two flows of its own: one whose events come again, and one that is new beside it."""

    def __init__(self, service: Service, name: str) -> None:
        self.form, self.flow, at = FORMATS[name], f"once-{name}", now_us()
        self.events, self.others = story(self.flow, at), story(f"{self.flow}-other", at)
        self.idents = sorted({event["message_id"] for event in self.events})
        for flow in (self.flow, f"{self.flow}-other"):
            put(service, flow, SPEC.format(flow=flow))


def put(service: Service, flow: str, spec: str) -> None:
    """The flow is known."""
    service.http.put(f"/v1/flows/{flow}", content=spec).raise_for_status()


def send(service: Service, form: Format, batches: Sequence[Sequence[Event]]) -> None:
    """Each batch in a request of its own; all of it must be taken."""
    for batch in batches:
        body = form.body(batch)

        def post(body: bytes = body) -> httpx.Response:
            return service.http.post(form.path, content=body, headers=form.headers)

        answer = service.until(post, lambda answer: answer.status_code != 503)
        assert answer.status_code == 200, answer.text
        assert form.path == "/v1/events" or answer.content in (b"", b"{}")  # else some spans were rejected


def counts(service: Service, flow: str, idents: Sequence[str]) -> dict[str, Any]:
    """Everything that says how many: books, verdicts, flags, timelines, findings, incidents, metrics."""
    books = service.get(f"/v1/flows/{flow}/reconciliation", **{"from": "-1h", "to": "now"})
    messages = {ident: service.get(f"/v1/flows/{flow}/messages/{ident}") for ident in idents}
    findings = [finding for finding in service.get("/v1/findings", limit=1000)["items"] if finding["flow"] == flow]
    metrics = service.http.get("/metrics").text.splitlines()
    return {
        "books": {name: books[name] for name in ("produced", "orphans", "verdicts", "conserved")},
        "messages": {ident: _said(message) for ident, message in messages.items()},
        "findings": sorted((f["message_id"], f["hop"], f["stage"], f["kind"], f["status"]) for f in findings),
        "metrics": sorted(line for line in metrics if re.match(COUNTED.pattern % re.escape(flow), line)),
    }


def _said(message: Mapping[str, Any]) -> tuple[Any, ...]:
    timeline = [(one["hop"], one["stage"], one["observed_at"], one["delivery"]) for one in message["timeline"]]
    return message["verdict"], sorted(message["flags"]), sorted(timeline)


def settled(service: Service, flows: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """The counts of each flow, given with its ids, once what is lost was found, a pass that began after that has ended,
    and the metrics know of it."""

    def lost() -> set[int]:
        books = [service.get(f"/v1/flows/{flow}/reconciliation", **{"from": "-1h"}) for flow in flows]
        return {one["verdicts"].get("lost") for one in books}

    service.until(lost, lambda counted: counted == {LOST})
    at = now_us()
    service.send([{"flow": "markers", "message_id": str(at), "hop": "a", "stage": "produce", "observed_at": at}])
    service.until(lambda: _passed(service, at), bool)
    since = now_us() / 1_000_000
    service.until(lambda: service.http.get("/metrics").text.splitlines(), lambda lines: _gauged(lines) > since)
    return {flow: counts(service, flow, idents) for flow, idents in flows.items()}


def _gauged(lines: Iterable[str]) -> float:
    """The moment (epoch s) that every gauge knows of, of those that are worked out aside."""
    told = dict(line.split(" ", 1) for line in lines if line.startswith(GAUGED))
    return min(float(told.get(name, 0)) for name in GAUGED)


def _passed(service: Service, at: int) -> bool:
    """Whether the books count the marker of this time: the pass that took it, and all before it, has ended."""
    books = service.get("/v1/flows/markers/reconciliation", **{"from": str(at), "to": str(at + 1_000_000)})
    return bool(books["produced"])


def resends(events: Sequence[Event], others: Sequence[Event], seed: int) -> list[list[Event]]:
    """The same events again: as one batch, one by one, in another order and other batches, twice within a batch, mixed
    with events that are new."""
    chance = random.Random(seed)
    shuffled = chance.sample(events, len(events))
    cut = sorted(chance.sample(range(1, len(events)), 5))
    pieces = [shuffled[a:b] for a, b in zip([0, *cut], [*cut, len(events)], strict=True)]
    mixed = chance.sample([*events, *others], len(events) + len(others))
    return [list(events), *([one] for one in events[::7]), *pieces, [*shuffled[:20], *events], mixed]


@pytest.mark.slow
@pytest.mark.parametrize("names", [BINARY, pytest.param(TEXTS, marks=pytest.mark.long)], ids=" ".join)
def test_resends_count_once(service: Service, names: Sequence[str]) -> None:
    """Resent in other boundaries and another order, mixed with new events, after a SIGKILL of the service, and by other
    formats of the same events: books, verdicts, timelines, findings and metrics stay as they were."""
    put(service, "markers", "flow: markers\ncheckpoints: [{hop: a, stage: produce}]\n")
    tales = [Tale(service, name) for name in names]
    flows = {tale.flow: tale.idents for tale in tales}
    both = flows | {f"{tale.flow}-other": tale.idents for tale in tales}
    for tale in tales:
        send(service, tale.form, [tale.events[:30], tale.events[30:]])
    first = settled(service, flows)
    for flow, told in first.items():
        assert told["books"]["produced"] + told["books"]["orphans"] == len(flows[flow])
        assert sum(told["books"]["verdicts"].values()) == len(flows[flow])
        assert told["messages"]["twice-2"][1] == ["duplicated"]
        assert told["messages"]["whole-0"][1] == []
        assert told["metrics"]

    for tale in tales:
        send(service, tale.form, resends(tale.events, tale.others, seed=1))
    again = settled(service, both)
    assert {flow: again[flow] for flow in flows} == first

    service.process.kill()
    service.start()
    for tale in tales:
        send(service, tale.form, resends(tale.events, tale.others, seed=2))
        for other in FORMATS.values():
            if other.path == tale.form.path:
                send(service, other, [tale.events])
    assert settled(service, both) == again
    for flow in flows:
        assert again[f"{flow}-other"]["books"] == first[flow]["books"]
