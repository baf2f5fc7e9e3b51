"""Two real clusters and a real MirrorMaker 2 between them: what the tail of the copies sees, and what follows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from collectors.errors import Undecodable
from collectors.kafka.tail import KafkaTail, tail
from tests.brokers.kafka_topic import Topic, ids, own_topic, read_to_now, read_until, wait_for
from tests.brokers.running import covered, lines, run
from tests.contract.http_tracker import HttpTracker
from tests.drills.scene import scene
from tests.servers.mirror_maker import MirrorMaker
from tracker.model.carry import ORIGIN_AT
from tracker.model.coverage import Coverage
from tracker.model.event import Event, Stage
from tracker.model.judge import judge
from tracker.model.spec import load_spec
from tracker.model.verdict import Flag, Judgement, Verdict

pytestmark = pytest.mark.brokers
PAGE = Path(__file__).parents[2] / "docs" / "collectors" / "kafka.md"
SPEC = """flow: orders
checkpoints:
  - {hop: kafka-eu, stage: persist}
  - {hop: kafka-us, stage: replicate, after: kafka-eu, within: 60s, same_payload: true, at_most: 1}
"""
LONGER = 60.0
"""Seconds for a mirror to see a new topic, on a machine with other work to do."""


class Clusters(NamedTuple):
    """The two ends, as bootstrap addresses, and what copies."""

    source: str
    target: str
    mirror: MirrorMaker


@pytest.fixture(scope="module")
def clusters(
    kafka_server: str, kafka_factory: Callable[..., Any], mirror_factory: Callable[..., MirrorMaker]
) -> Iterator[Clusters]:
    """Everything called `orders-...` is copied."""
    target = kafka_factory()
    yield Clusters(kafka_server, target.bootstrap, mirror_factory(kafka_server, target.bootstrap, ["orders-.*"]))
    target.kill()


@pytest.fixture
def topic(clusters: Clusters) -> Iterator[Topic]:
    """A topic of two partitions at the source that is copied."""
    with own_topic(clusters.source, partitions=2) as topic:
        copied = Topic(clusters.target, f"eu.{topic.name}")
        wait_for(lambda: copied.name in copied.admin.list_topics(timeout=5).topics, "the copy", LONGER)
        yield topic


@contextmanager
def tailing(servers: str, hop: str, *topics: str, stage: str = "replicate") -> Iterator[KafkaTail]:
    """A tail of these topics."""
    routes = [{"topic": topic, "flow": "orders", "hop": hop, "stage": stage} for topic in topics]
    config = {"url": f"kafka://{servers}", "topics": routes, "look_every": 0.1}
    with closing(tail(f"{hop}.{time.time_ns()}", config)) as made:
        yield made


@contextmanager
def both(clusters: Clusters, topic: Topic) -> Iterator[tuple[KafkaTail, KafkaTail]]:
    """Tails of the originals and of the copies, which have looked."""
    with ExitStack() as stack:
        eu = stack.enter_context(tailing(clusters.source, "kafka-eu", topic.name, stage="persist"))
        us = stack.enter_context(tailing(clusters.target, "kafka-us", f"eu.{topic.name}"))
        for one in (eu, us):
            read_to_now(one)
        yield eu, us


def events(collector: KafkaTail, count: int) -> list[Event]:
    """The next ones, in the order of their ids."""
    found = [event for raw in read_until(collector, count, LONGER) for event in collector.decode(raw)]
    return sorted(found, key=lambda event: (event.message_id, event.offset))


def judged(message: Sequence[Event], spec: str = SPEC) -> Judgement:
    """What is said of a message of which nothing is missing."""
    return judge(load_spec(spec), message, Coverage(), max(event.observed_at for event in message) + 60_000_000)


def test_a_copy_is_a_replicate_and_carries_what_its_original_carried(clusters: Clusters, topic: Topic) -> None:
    """Id, digest, size, origin, partition; and what is vouched for is the copying."""
    names = [f"m-{n}" for n in range(40)]
    with both(clusters, topic) as (eu, us):
        topic.put(names, headers={ORIGIN_AT: b"1795000000000001"})
        originals, copies = events(eu, 40), events(us, 40)
        read_to_now(us)
        vouched = us.sources()
    assert [copy.message_id for copy in copies] == sorted(names)
    assert {(c.hop, c.stage, c.origin_at) for c in copies} == {("kafka-us", Stage.replicate, 1795000000000001)}
    for original, copy in zip(originals, copies, strict=True):
        assert (copy.digest, copy.size) == (original.digest, original.size)
        assert copy.partition == f"eu.{original.partition}"
        assert copy.node != original.node
        assert copy.observed_at >= original.observed_at
        assert judged([original, copy]).verdict == Verdict.delivered
    assert [(s.hop, s.stage, s.source) for s in vouched] == [
        ("kafka-us", "replicate", f"eu.{topic.name}/{n}") for n in range(2)
    ]


def test_a_copy_that_comes_late_is_late(clusters: Clusters, topic: Topic) -> None:
    """Though it has its original's timestamp: while the mirror stands still, each look finds that it is not there."""
    with both(clusters, topic) as (eu, us):
        clusters.mirror.process.pause()
        try:
            topic.put(["m-1"], partition=1)
            [original] = events(eu, 1)
            while time.time() - us.lag().ms / 1000 < original.observed_at / 1e6 + 2:
                assert us.read(10, 0.1) == []
        finally:
            clusters.mirror.process.resume()
        [copy] = events(us, 1)
    assert copy.observed_from is None
    assert copy.origin_at == original.origin_at == original.observed_at
    assert copy.observed_at - original.observed_at > 1_900_000
    assert judged([original, copy], SPEC.replace("60s", "1s")).verdict == Verdict.late


def test_a_copy_from_before_the_first_look_is_known_as_a_span(clusters: Clusters, topic: Topic) -> None:
    """It came some time between its original and now, and is not called late."""
    topic.put(["m-1"])
    copied = Topic(clusters.target, f"eu.{topic.name}")
    wait_for(lambda: sum(end for _, end in copied.ends().values()), "the copy", LONGER)
    with tailing(clusters.target, "kafka-us", copied.name) as us:
        [copy] = events(us, 1)
    assert copy.observed_from == copy.origin_at
    assert copy.origin_at is not None
    assert copy.origin_at < copy.observed_at


def test_what_the_brokers_stamp(clusters: Clusters) -> None:
    """With LogAppendTime at the source a copy carries the time of that append, as if its producer had set it; with
    LogAppendTime at the target it carries the time at which it came, however long ago that was, and no origin."""
    stamped = {"message.timestamp.type": "LogAppendTime"}
    with own_topic(clusters.source, config=stamped) as topic:
        copied = Topic(clusters.target, f"eu.{topic.name}")
        wait_for(lambda: copied.name in copied.admin.list_topics(timeout=5).topics, "the copy", LONGER)
        topic.put(["m-1"])
        wait_for(lambda: copied.ends()[0][1] == 1, "a copy", LONGER)
        there = ConfigResource(ConfigResource.Type.TOPIC, copied.name, incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in stamped.items()
        ])  # fmt: skip
        copied.admin.incremental_alter_configs([there])[there].result(20)
        before = time.time_ns() // 1000
        topic.put(["m-2"])
        wait_for(lambda: copied.ends()[0][1] == 2, "a copy", LONGER)
        after = time.time_ns() // 1000
        with tailing(clusters.source, "kafka-eu", topic.name, stage="persist") as eu:
            originals = events(eu, 2)
        with tailing(clusters.target, "kafka-us", copied.name) as us:
            copies = events(us, 2)
    assert [original.origin_at for original in originals] == [None, None]
    assert (copies[0].origin_at, copies[0].observed_from) == (originals[0].observed_at, originals[0].observed_at)
    assert (copies[1].origin_at, copies[1].observed_from) == (None, None)
    assert before - 1000 <= copies[1].observed_at <= after


def test_a_copy_that_differs_is_divergent(clusters: Clusters, topic: Topic) -> None:
    """Somebody writes to the copy's topic: the same id, another payload."""
    with both(clusters, topic) as (eu, us):
        topic.put(["m-1"])
        found = events(eu, 1) + events(us, 1)
        assert judged(found).verdict == Verdict.delivered
        Topic(clusters.target, f"eu.{topic.name}").put(["m-1"], value=b"forged")
        found += events(us, 1)
    assert judged(found).verdict == Verdict.divergent


def test_what_is_new_at_the_source_is_seen_at_the_target(clusters: Clusters, topic: Topic) -> None:
    """A partition that is added, and a topic that is made later; each is vouched for once it is there."""
    later = Topic(clusters.source, f"{topic.name}-later")
    with tailing(clusters.target, "kafka-us", f"eu.{topic.name}", f"eu.{later.name}") as us:
        read_to_now(us)
        topic.grow(3)
        later.create()
        topic.put(["m-1"], partition=2)
        later.put(["m-2"])
        assert ids(us, read_until(us, 2, LONGER)) == ["m-1", "m-2"]
        read_to_now(us)
        assert [s.source for s in us.sources()] == [
            *(f"eu.{topic.name}/{n}" for n in range(3)), f"eu.{later.name}/0"
        ]  # fmt: skip
    later.delete()


def test_what_the_mirror_keeps_for_itself_is_no_message(clusters: Clusters, topic: Topic) -> None:
    """The pattern of the docs leaves it out; without that it has no id, and is set aside."""
    [pattern] = re.findall(r"`(\^eu[^`]+)`", PAGE.read_text())
    admin = Topic(clusters.target, "heartbeats").admin
    wait_for(lambda: {"heartbeats", "eu.checkpoints.internal"} <= set(admin.list_topics(timeout=5).topics), "both")
    topic.put(["m-1"])
    with tailing(clusters.target, "kafka-us", pattern) as us:
        raws = read_until(us, 1)
        raws += read_to_now(us)
        assert {raw.position.topic for raw in raws} <= {
            name for name in admin.list_topics(timeout=5).topics if name.startswith(("eu.orders-", "eu.mirror-"))
        }
    with tailing(clusters.target, "kafka-us", "heartbeats") as us, pytest.raises(Undecodable, match="has no header"):
        us.decode(read_until(us, 1)[0])


def example(clusters: Clusters, topic: Topic) -> tuple[str, list[dict[str, Any]]]:
    """The flow and the collectors of the page, for a topic of the test's."""
    text = PAGE.read_text().partition("## Two clusters")[2]
    spec, config = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[:2]
    shown = {
        "kafka://eu-1:9092": f"kafka://{clusters.source}", "topic: orders\n": f"topic: {topic.name}\n",
        "kafka://us-1:9092": f"kafka://{clusters.target}", "topic: eu.orders\n": f"topic: eu.{topic.name}\n",
    }  # fmt: skip
    for one, own in shown.items():
        assert one in config
        config = config.replace(one, own)
    return spec, yaml.safe_load(config)["collectors"]


def test_the_example_of_the_docs_reports_what_was_copied(clusters: Clusters, topic: Topic, tmp_path: Path) -> None:
    """Its collectors, run as they are: by its flow, everything is delivered."""
    spec, collectors = example(clusters, topic)
    names = [f"m-{n}" for n in range(30)]
    with HttpTracker() as tracker:
        stops = [run(each, tracker.url, tmp_path) for each in collectors]
        try:
            wait_for(lambda: covered(tracker, "persist") == covered(tracker, "replicate") == 2, "coverage", LONGER)
            topic.put(names)
            wait_for(lambda: len(lines(tracker)) >= 60, "all lines", LONGER)
        finally:
            for stop in stops:
                stop()
    seen = [msgspec.convert(line, Event) for line in lines(tracker)]
    for name in names:
        message = [event for event in seen if event.message_id == name]
        assert {event.stage for event in message} == {Stage.persist, Stage.replicate}
        assert judged(message, spec).verdict == Verdict.delivered


@pytest.mark.long
def test_a_finding_about_a_copy_that_comes_late_was_right(clusters: Clusters, topic: Topic, tmp_path: Path) -> None:
    """A tracker and the collectors of the page. A copy that is missing at its deadline is named; when it comes after
    all the finding is recovered, not withdrawn."""
    spec, collectors = example(clusters, topic)
    with scene(tmp_path, spec.replace("30s", "3s"), collectors) as made:
        made.watch(sources=4)
        clusters.mirror.process.pause()
        try:
            topic.put(["m-late"])
            made.until(made.findings, "a finding")
        finally:
            clusters.mirror.process.resume()
        made.until(lambda: not made.findings(), "the copy")
        [finding] = made.service.get("/v1/findings", flow="orders")["items"]
        message = made.service.get("/v1/flows/orders/messages/m-late")
    assert (finding["kind"], finding["status"], finding["by"]) == ("under_replicated", "recovered", "itself")
    assert (message["verdict"], message["flags"]) == ("late", [])


@pytest.mark.long
def test_what_is_copied_twice_is_still_one_copy(clusters: Clusters, topic: Topic) -> None:
    """A mirror that was killed copies again what it copied in its last minute. That is a second delivery, which only
    `at_most` asks about, and no other payload."""
    names = [f"m-{n}" for n in range(20)]
    with both(clusters, topic) as (eu, us):
        topic.put(names)
        found = events(eu, 20) + events(us, 20)
        clusters.mirror.kill()
        clusters.mirror.start()
        again = events(us, 20)
    assert {event.message_id for event in again} == set(names)
    for name in names:
        message = [event for event in found + again if event.message_id == name]
        verdict = judged(message)
        assert (verdict.verdict, verdict.flags) == (Verdict.delivered, frozenset({Flag.duplicated}))


@pytest.mark.long
def test_copies_under_the_names_of_their_originals(
    clusters: Clusters, kafka_factory: Callable[..., Any], mirror_factory: Callable[..., MirrorMaker]
) -> None:
    """With IdentityReplicationPolicy; nothing else is different."""
    with own_topic(clusters.source) as topic:
        target = kafka_factory()
        mirror = mirror_factory(clusters.source, target.bootstrap, [topic.name], same_names=True)
        topic.put(["m-1"])
        wait_for(lambda: topic.name in topic.admin.list_topics(timeout=5).topics, "the copy", LONGER)
        with tailing(target.bootstrap, "kafka-us", topic.name) as us:
            [copy] = events(us, 1)
        mirror.kill()
        target.kill()
    assert (copy.message_id, copy.partition, copy.stage) == ("m-1", f"{topic.name}/0", Stage.replicate)
