"""Nodes whose clocks are wrong by half an hour and more, in front of a real service."""

from __future__ import annotations

import re

import pytest

from collectors.clock import now_micros
from collectors.emitter import Emitter
from collectors.node_clock import NodeClock
from tests.e2e.service import Service
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

SPEC = """flow: orders
checkpoints:
  - {hop: shop, stage: produce}
  - {hop: billing, stage: ack, after: shop, within: 60s, order: key}
"""
MINUTE = 60_000_000
WRONG = {"shop": -60 * MINUTE, "billing": 40 * MINUTE}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service that knows the flow."""
    running = Service(tmp_path_factory.mktemp("clocks"), "--insecure").start()
    running.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
    yield running
    running.close()


class Node:
    """An instrumented client on a host whose wall clock is wrong."""

    def __init__(self, service, folder, hop, stage, monkeypatch):
        self.wall = lambda: now_micros() + WRONG[hop]
        monkeypatch.setattr("collectors.emitter.NodeClock", lambda: NodeClock(self.wall))
        self.emitter = Emitter(service.url, collector=hop, spool=folder / hop)
        self.emitter.vouch([SourceRef("orders", hop, stage.value, hop)])
        self.hop, self.stage = hop, stage

    def see(self, *ids, **more):
        """These messages, one after the other, by its own clock."""
        for ident in ids:
            now = self.wall()
            origin = now if self.stage == Stage.produce else None
            event = Event(flow="orders", message_id=ident, hop=self.hop, stage=self.stage, node=self.hop, key="k",
                          observed_at=now, origin_at=origin, **more)  # fmt: skip
            self.emitter.emit([event])
        assert self.emitter.flush()


@pytest.fixture
def nodes(service, tmp_path, monkeypatch):
    """A shop whose clock is an hour behind and a billing that is forty minutes ahead."""
    made = [
        Node(service, tmp_path, hop, stage, monkeypatch)
        for hop, stage in (("shop", Stage.produce), ("billing", Stage.ack))
    ]
    yield made
    for node in made:
        node.emitter.close()


def test_wrong_clocks_are_corrected_and_shown(service, nodes):
    """Delivered in time, with true latencies, though the clocks are a hundred minutes apart; the correction is in the
    timeline, in the command's answer and in the metrics."""
    shop, billing = nodes
    shop.see("m-1", "m-2")
    billing.see("m-2", "m-1")
    path = "/v1/flows/orders/messages/m-1"
    found = service.until(lambda: service.get(path), lambda got: "reordered" in got["flags"])
    assert (found["verdict"], found["flags"]) == ("delivered", ["reordered"])
    assert found["overtaken"] == [{"hop": "billing", "stage": "ack", "passed_by": "m-2"}]
    produced, acked = found["timeline"]
    assert (produced["hop"], acked["hop"]) == ("shop", "billing")
    for seen, hop in ((produced, "shop"), (acked, "billing")):
        assert abs(seen["clock_offset_ms"] + WRONG[hop] / 1000) <= seen["clock_error_ms"] < 5_000
    assert abs(produced["latency_ms"]) < 1
    assert -5_000 < acked["latency_ms"] < 60_000
    shown = service.cli("messages", "show", "orders", "m-1").stdout
    assert "Overtaken at billing (ack) by m-2" in shown
    assert "CLOCK CORRECTED BY" in shown
    assert re.search(r"\+3[56]\d{5}\.\d ms", shown)
    listed = service.get("/v1/flows/orders/messages", flag="reordered")["items"]
    assert [one["message_id"] for one in listed] == ["m-1"]
    metrics = service.until(lambda: service.http.get("/metrics").text, lambda text: 'collector="shop"' in text)
    offset = float(re.search(r'tracker_node_clock_offset_seconds\{collector="shop"\} (\S+)', metrics)[1])
    assert abs(offset - 3600) < 5
    page = service.http.get("/flows/orders/messages/m-1").text
    assert "clock corrected by" in page
    assert "Overtaken at billing" in page
