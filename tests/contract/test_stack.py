"""Three brokers, one process of collectors, one tracker, all real: the tracker away, the clock wrong."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager

import pytest

from tests.contract.stack import SPECS, stacked
from tests.e2e.service import Service

pytestmark = [pytest.mark.brokers, pytest.mark.slow]
HOURS = 3 * 3600
NUMBER = itertools.count(1)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A tracker, shared by the tests here; each has flows of its own."""
    running = Service(tmp_path_factory.mktemp("stack"), "--insecure").start()
    yield running
    running.close()


@contextmanager
def standing(service, kafka, rabbitmq, postgres, folder):
    """(stack, run): `run(*arguments)` starts its collectors, and waits until they vouch."""
    with stacked(f"s{next(NUMBER)}", service, kafka, rabbitmq, postgres, folder) as made:
        processes = []

        def run(*python, spool_mb=16):
            processes.append(made.collectors(spool_mb, *python))
            processes[-1].start(lambda: None)
            made.until(made.vouched, processes[-1].tail)
            return processes[-1]

        try:
            yield made, run
        finally:
            for process in processes:
                process.stop()


@pytest.fixture
def stack(service, kafka_server, rabbitmq_server, postgres_server, tmp_path):
    """On the servers that all tests share."""
    with standing(service, kafka_server, rabbitmq_server, postgres_server, tmp_path) as found:
        yield found


def blind(stack, system):
    """Where the tracker says that it does not know, but for what is not vouched for yet."""
    spots = [spot for spot in stack.books(system)["blind_spots"] if spot["hop"] == SPECS[system][2]]
    return [spot for spot in spots if spot["cause"] != "behind"]


def test_the_tracker_is_gone_for_longer_than_the_spool_lasts(stack, service):
    """A spool of 1 MiB for each collector: when it is full the reading stops, and the brokers keep what was not read.
    So afterwards everything is delivered, nothing was called missing, and coverage has no hole."""
    made, run = stack
    run(spool_mb=1)
    since = {system: len(blind(made, system)) for system in SPECS}
    service.process.kill()
    for _ in range(2):
        made.put(2500)
    full = 0.7 * 2**20
    made.until(lambda: all(size > full for size in made.spooled().values()), lambda: str(made.spooled()))
    before = made.spooled()
    made.put(200)
    assert all(size <= 2**20 for size in before.values())
    service.start()
    made.tell()
    made.settled()
    assert made.findings() == []
    made.until(made.vouched, lambda: "coverage did not come back")
    assert {system: blind(made, system)[since[system] :] for system in SPECS} == {system: [] for system in SPECS}


@pytest.mark.parametrize("seconds", [HOURS, -HOURS])
def test_the_clock_of_the_collectors_is_wrong(stack, seconds):
    """Hours ahead or behind: nobody is called late or missing, and what they dated themselves is corrected."""
    made, run = stack
    run("tests.contract.skewed", str(seconds))
    made.put(50)
    made.tell()
    made.settled()
    assert made.findings() == []
    for system, (_, _, hop, stage) in SPECS.items():
        found = made.service.get(f"/v1/flows/{made.flow(system)}/messages/m-7")
        (seen,) = [event for event in found["timeline"] if (event["hop"], event["stage"]) == (hop, stage)]
        assert abs(seen["latency_ms"]) < 60_000
        assert found["flags"] == []
        if system == "rabbit":  # its own clock dates what it reads; the others pass on the broker's
            assert abs(seen["clock_offset_ms"] + seconds * 1000) < 60_000


def test_the_clock_is_set_back_between_two_runs(stack):
    """What an earlier process noted by its clock lies in the future of the next one: it vouches again at once."""
    made, run = stack
    run("tests.contract.skewed", str(HOURS)).stop()
    run()
    made.put(20)
    made.tell()
    made.settled()
    assert made.findings() == []


MINUTES = 150.0
"""Seconds of an outage: longer than clients' heartbeats, sessions and patience."""


@pytest.mark.long
def test_minutes_without_a_tracker(stack, service):
    """With a full spool nobody reads, not even to answer a broker's heartbeats, so RabbitMQ may hang up: a hole there
    is allowed, a finding is not. All that was put is delivered in the end."""
    made, run = stack
    run(spool_mb=1)
    since = {system: len(blind(made, system)) for system in SPECS}
    service.process.kill()
    until = time.monotonic() + MINUTES
    while time.monotonic() < until:
        made.put(200)
        time.sleep(2)
    service.start()
    made.tell()
    made.settled()
    assert made.findings() == []
    made.until(made.vouched, lambda: "coverage did not come back")
    holes = {system: blind(made, system)[since[system] :] for system in SPECS}
    print({"outage_s": MINUTES, "messages": len(made.sent), "findings": 0, "holes": holes})
    assert holes["kafka"] == holes["outbox"] == []


@pytest.mark.long
def test_minutes_without_brokers(service, kafka_factory, rabbitmq_factory, postgres_factory, tmp_path):
    """All three killed. Nothing is called missing meanwhile; afterwards coverage comes back by itself, for RabbitMQ
    when its firehose is switched on again."""
    kafka, rabbitmq, postgres = kafka_factory(), rabbitmq_factory(), postgres_factory()
    rabbitmq.trace()
    with standing(service, kafka.bootstrap, rabbitmq, postgres, tmp_path) as (made, run):
        run()
        made.put(200)
        made.tell()
        made.settled()
        for server in (kafka, rabbitmq, postgres):
            server.kill()
        time.sleep(MINUTES)
        assert made.findings() == []
        for server in (kafka, rabbitmq, postgres):
            server.start()
        rabbitmq.trace(True, made.vhost.name)
        began = time.monotonic()
        made.connect()
        made.until(made.vouched, lambda: "coverage did not come back")
        back = time.monotonic() - began
        made.put(200)
        made.tell()
        made.settled()
        assert made.findings() == []
        print({"outage_s": MINUTES, "vouched_again_after_s": round(back, 1), "findings": 0})
    for server in (kafka, rabbitmq, postgres):
        server.kill()
