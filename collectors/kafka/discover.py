"""What a Kafka cluster holds, looked at without changing anything: no group is joined and nothing is committed.

Of the newest records of each topic a few are read, for the names of their headers; values and payloads are not kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec

from collectors.draft import PRODUCER, WITHIN, Asked, Entry, Flow, Found, listing, named
from collectors.kafka.client import REQUEST_TIMEOUT, Cluster, driver_errors
from collectors.kafka.frontier import Slot
from collectors.kafka.records import headers_of
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID

NEWEST, PARTITIONS, MOST = 20, 4, 400
"""Records looked at in each of so many partitions of a topic, and of so many partitions in all."""
PATIENCE = 15.0
"""Seconds for all of them."""
SHORT = 24 * 3600 * 1000
"""Retention (ms) below which an absence over a weekend is a loss."""
HOP = "kafka"
NAMES = 12


class Topic(msgspec.Struct):
    """`sampled` records were looked at, `with_id` had the header; `headers` are the names seen."""

    topic: str
    partitions: int
    policy: str = ""
    retention_ms: int | None = None
    retention_bytes: int | None = None
    timestamps: str = ""
    groups: list[str] = []
    sampled: int = 0
    with_id: int = 0
    headers: list[str] = []

    @property
    def usable(self) -> bool:
        """Whether records carry an id, as far as anybody can tell."""
        return bool(self.with_id) or not self.sampled


def discover(url: str, given: str, asked: Asked) -> Found:
    """Look at the cluster at `url`, and draft with the address as it was `given`. Raises `Unavailable`,
    `ConfigInvalid`."""
    client = {key: expanded for key, (_, expanded) in asked.settings.items()}
    cluster = settings(Cluster, {"url": url, "client": client}, "discover")
    what = f"Kafka {cluster.servers}"
    with driver_errors(what):
        admin = AdminClient(cluster.driver())
        known = admin.list_topics(timeout=REQUEST_TIMEOUT).topics
        names = sorted(name for name in known if not name.startswith("_"))
        topics = {name: Topic(name, len(known[name].partitions)) for name in names}
        _configured(admin, topics)
        _grouped(admin, topics)
        _sampled(cluster, admin, topics, asked.identity_header or MESSAGE_ID)
    return _found(what, sorted(known.keys() - topics.keys()), list(topics.values()), given, asked)


def _configured(admin: AdminClient, topics: Mapping[str, Topic]) -> None:
    if not topics:
        return
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
    for resource, future in admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT).items():
        try:
            told = {name: entry.value for name, entry in future.result().items()}
        except KafkaException:  # not allowed to look: then nothing is said of it
            continue
        topic = topics[resource.name]
        topic.policy, topic.timestamps = told["cleanup.policy"], told["message.timestamp.type"]
        topic.retention_ms, topic.retention_bytes = int(told["retention.ms"]), int(told["retention.bytes"])


def _grouped(admin: AdminClient, topics: Mapping[str, Topic]) -> None:
    """Who has committed where. A group that was never committed to is not known to the cluster."""
    listed = admin.list_consumer_groups(request_timeout=REQUEST_TIMEOUT).result()
    groups = sorted(group.group_id for group in listed.valid if not group.group_id.startswith("tracker."))
    for group in groups:
        [future] = admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_TIMEOUT
        ).values()
        try:
            places = future.result().topic_partitions
        except KafkaException:
            continue
        for name in sorted({place.topic for place in places if place.offset >= 0} & topics.keys()):
            topics[name].groups = [*topics[name].groups, group]


def _sampled(cluster: Cluster, admin: AdminClient, topics: Mapping[str, Topic], header: str) -> None:
    slots = [TopicPartition(t.topic, n) for t in topics.values() for n in range(min(t.partitions, PARTITIONS))][:MOST]
    first, end = _offsets(admin, slots, OffsetSpec.earliest()), _offsets(admin, slots, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    left = {slot for slot, offset in end.items() if slot in first and first[slot] < offset}
    if not left:
        return
    consumer = Consumer(
        cluster.member("tracker.discover", enable_partition_eof=True, auto_offset_reset="latest",
                       queued_max_messages_kbytes=16_384, fetch_wait_max_ms=100)
    )  # fmt: skip
    names: dict[str, Counter[str]] = {name: Counter() for name in topics}
    try:
        consumer.assign([TopicPartition(*slot, max(first[slot], end[slot] - NEWEST)) for slot in left])
        until = time.monotonic() + PATIENCE
        while left and time.monotonic() < until:
            for message in consumer.consume(500, 0.5):
                left -= _passed(message, topics, names, header, end)
    finally:
        consumer.close()
    for name, counted in names.items():
        topics[name].headers = [header for header, _ in counted.most_common(NAMES)]


def _passed(
    message: Any, topics: Mapping[str, Topic], names: Mapping[str, Counter[str]], header: str, end: Mapping[Slot, int]
) -> set[Slot]:
    """Take note of a record's headers; its partition, when that was the last one to look at."""
    slot, error = (message.topic(), message.partition()), message.error()
    if error is not None:
        return {slot} if error.code() == KafkaError._PARTITION_EOF else set()
    seen = set(headers_of(message))
    topic = topics[slot[0]]
    topic.sampled, topic.with_id = topic.sampled + 1, topic.with_id + (header in seen)
    names[slot[0]].update(seen)
    return {slot} if message.offset() + 1 >= end[slot] else set()


def _offsets(admin: AdminClient, slots: Iterable[TopicPartition], spec: OffsetSpec) -> dict[Slot, int]:
    wanted = dict.fromkeys(slots, spec)
    if not wanted:
        return {}
    found = {}
    for place, future in admin.list_offsets(wanted, request_timeout=REQUEST_TIMEOUT).items():
        try:
            found[place.topic, place.partition] = future.result().offset
        except KafkaException:  # without a leader for now: it is not looked into
            continue
    return found


def _found(what: str, ours: Sequence[str], topics: Sequence[Topic], given: str, asked: Asked) -> Found:
    usable = [topic for topic in topics if topic.usable]
    notes = [f"Left out, internal by their names: {', '.join(ours)}."] if ours else []
    about = [note for topic in topics for note in _notes(topic, asked.identity_header or MESSAGE_ID)]
    items = [msgspec.to_builtins(topic) for topic in topics]
    if not usable:
        return Found(what, [*notes, *about], items, [], [])
    return Found(what, notes, items, _collectors(topics, about, given, asked), [_flow(topic) for topic in usable])


def _collectors(topics: Sequence[Topic], about: Sequence[str], given: str, asked: Asked) -> list[Entry]:
    common: dict[str, Any] = {"url": given}
    if asked.settings:
        common["client"] = {key: said for key, (said, _) in asked.settings.items()}
    notes = [*about]
    left_out = [topic for topic in topics if not topic.usable]
    if left_out:
        notes += ["To watch these as well, decide about their ids first:", *listing(map(_route, left_out))]
    routes = [_route(topic) for topic in topics if topic.usable]
    own = {"identity_header": asked.identity_header} if asked.identity_header else {}
    made = [Entry(notes, {"name": HOP, "kind": "kafka", **common, **own, "topics": routes})]
    followed = [
        {"group": group, "topic": topic.topic, "flow": named(topic.topic), "hop": named(group), "log": HOP}
        for topic in topics
        if topic.usable
        for group in topic.groups
    ]
    if followed:
        notes = [
            "Committed offsets say `moved past`, not `processed`.",
            "TODO instrument the consumers to know that each message was processed, and leave their group out here.",
        ]
        made.append(Entry(notes, {"name": f"{HOP}-groups", "kind": "kafka-groups", **common, "groups": followed}))
    return made


def _route(topic: Topic) -> dict[str, str]:
    return {"topic": topic.topic, "flow": named(topic.topic), "hop": HOP}


def _notes(topic: Topic, header: str) -> list[str]:
    """What somebody should know or decide about a topic."""
    name, said = f"topic {topic.topic}:", []
    if not topic.sampled:
        said.append(f"TODO {name} no record to look at; producers must set the header {header}")
    elif topic.with_id < topic.sampled:
        lacking = topic.sampled - topic.with_id
        seen = ", ".join(topic.headers) or "none"
        said.append(
            f"TODO {name} {lacking} of {topic.sampled} records looked at have no header {header}; seen: {seen}."
        )
        said.append(
            "  Have producers set it, name theirs in `identity_header`, or `id: offset`: a collector of its own"
        )
    if "compact" in topic.policy:
        said.append(f"TODO {name} compacted: what is compacted before it is read is not seen, nor there for replays")
    if topic.retention_ms is not None and 0 <= topic.retention_ms < SHORT and "delete" in topic.policy:
        said.append(
            f"TODO {name} retention {topic.retention_ms // 60_000} min: a collector away for longer leaves a hole"
        )
    if topic.retention_bytes is not None and topic.retention_bytes >= 0 and "delete" in topic.policy:
        said.append(f"TODO {name} retention by size ({topic.retention_bytes} bytes a partition): a burst shortens it")
    if topic.timestamps == "CreateTime":
        said.append(f"{name} CreateTime: a persist has the producer's time")
    return said


def _flow(topic: Topic) -> Flow:
    hops = [named(group) for group in topic.groups]
    points: list[dict[str, Any]] = [{"hop": HOP, "stage": "persist"}]
    points += [{"hop": hop, "stage": "ack", "after": HOP, "within": WITHIN} for hop in hops]
    notes = [
        PRODUCER,
        "  Without it a message that never reached the log is not known.",
    ]
    if hops:
        notes.append(f"TODO which of {', '.join(hops)} must have every message, and how soon")
    return Flow(named(topic.topic), notes, points)
