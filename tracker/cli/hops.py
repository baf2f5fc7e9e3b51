"""Where replays read copies and send them: the file that TRACKER_HOPS names.

    kafka-eu:
      kind: kafka
      url: "127.0.0.1:9092"
      topic: orders
      snapshot: {kind: archive, url: "file:///var/lib/tracker/archive", key: "env:ORDERS_KEY"}
    active-eu: {kind: activemq, url: "stomp://127.0.0.1:61613", queue: orders}
    rabbit-eu: {kind: rabbitmq, url: "amqp://guest:guest@127.0.0.1/", queue: orders}
    cache:     {kind: redis, url: "redis://127.0.0.1/0", stream: orders}
    rabbit-log: {kind: rabbitmq-stream, url: "amqp://guest:guest@127.0.0.1/", stream: orders.log}
    sensors: {kind: mqtt, url: "mqtt://127.0.0.1:1883", topic: sensors/again}
    nats-eu: {kind: nats, url: "nats://127.0.0.1:4222"}
    checkout:  {kind: postgres, url: "postgresql://reader@127.0.0.1/shop", table: outbox, payload: payload}
    billing:
      dead_letter: {kind: kafka, url: "127.0.0.1:9092", topic: orders.billing.dlt}

A hop is named as in flow specs. The keys beside `kind` are those of the broker's source and publisher: of the hop's own
log or queue, and below `dead_letter` and `snapshot` of what keeps its dead letters, or an archive of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from collectors.errors import CollectorError, MissingExtra
from tracker.cli.errors import UNAVAILABLE, CommandError
from tracker.model.carry import Publisher, Source
from tracker.replay.routes import DEAD_LETTER, LOG, SNAPSHOT, Keeper


@dataclass(frozen=True, slots=True)
class Kind:
    """`module:function` of what makes a publisher, and a source by what it keeps. `extra` brings `library`. Keys that
    only one of the two knows are kept from the other. Without the key `publisher_needs` there is no publisher."""

    extra: str
    library: str
    sources: Mapping[str, str] = field(default_factory=dict)
    publisher: str = ""
    source_only: frozenset[str] = frozenset()
    publisher_needs: str = ""
    publisher_only: frozenset[str] = frozenset()


KINDS: Mapping[str, Kind] = {
    "activemq": Kind(
        "",
        "",
        sources={DEAD_LETTER: "collectors.activemq.dead_queue:source"},
        publisher="collectors.activemq.publisher:publisher",
    ),
    "archive": Kind("archive", "fsspec", sources={SNAPSHOT: "collectors.archive.source:source"}),
    "kafka": Kind(
        "kafka",
        "confluent_kafka",
        sources={LOG: "collectors.kafka.source:source", DEAD_LETTER: "collectors.kafka.dead_letters:source"},
        publisher="collectors.kafka.publisher:publisher",
        source_only=frozenset({"id", "identity_header"}),
        publisher_needs="topic",
        publisher_only=frozenset({"topic", "partition"}),
    ),
    "mqtt": Kind("mqtt", "paho", publisher="collectors.mqtt_publisher:publisher"),
    "nats": Kind(
        "nats",
        "nats",
        sources={LOG: "collectors.nats.source:source"},
        publisher="collectors.nats.publisher:publisher",
        source_only=frozenset({"identity_header"}),
        publisher_only=frozenset({"subject"}),
    ),
    "postgres": Kind("postgres", "psycopg", sources={LOG: "collectors.postgres.source:source"}),
    "rabbitmq": Kind(
        "rabbitmq",
        "pika",
        sources={DEAD_LETTER: "collectors.rabbitmq.dead_queue:source"},
        publisher="collectors.rabbitmq.publisher:publisher",
    ),
    "rabbitmq-stream": Kind(
        "rabbitmq",
        "pika",
        sources={LOG: "collectors.rabbitmq.stream_source:source"},
        publisher="collectors.rabbitmq.publisher:stream_publisher",
        source_only=frozenset({"identity_header"}),
        publisher_only=frozenset({"stream"}),
    ),
    "redis": Kind(
        "redis",
        "redis",
        sources={LOG: "collectors.redis.source:source"},
        publisher="collectors.redis.publisher:publisher",
        source_only=frozenset({"identity_header"}),
        publisher_only=frozenset({"stream"}),
    ),
}
BESIDE = (DEAD_LETTER, SNAPSHOT)
"""What a hop may have beside its own log, each with a `kind` of its own."""


@dataclass
class Ends:
    """Sources by who keeps what, publishers by hop; close them when the service ends."""

    sources: dict[Keeper, Source] = field(default_factory=dict)
    publishers: dict[str, Publisher] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of every connection."""
        for source in self.sources.values():
            source.close()
        for publisher in self.publishers.values():
            publisher.close()


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The file's hops. Raises CommandError naming what is wrong and where."""
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"TRACKER_HOPS={path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise CommandError(f"{path}:{mark.line + 1 if mark else 1}: not readable as YAML") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CommandError(f"{path}: a mapping of hops is expected: `kafka-eu: {{kind: kafka, url: ...}}`")
    for hop, config in found.items():
        _checked(path, hop, config)
    return found


def _checked(path: Path, hop: str, config: Any) -> None:
    beside = [name for name in BESIDE if isinstance(config, dict) and name in config]
    if not isinstance(config, dict) or (config.get("kind") not in KINDS and ("kind" in config or not beside)):
        raise CommandError(f"{path}: hop {hop!r} needs `kind`: one of {', '.join(sorted(KINDS))}")
    for name in beside:
        kinds = sorted(kind for kind, about in KINDS.items() if name in about.sources)
        if not isinstance(config[name], dict) or config[name].get("kind") not in kinds:
            known = ", ".join(kinds) or "none in this version"
            raise CommandError(f"{path}: `{name}` of hop {hop!r} needs `kind`: one of {known}")


def build(hops: Mapping[str, Mapping[str, Any]]) -> Ends:
    """Makes what each hop's kind offers. Raises CommandError that names the hop."""
    ends = Ends()
    for hop, config in hops.items():
        own = {name: value for name, value in config.items() if name not in BESIDE}
        if own:
            kind = KINDS[own["kind"]]
            if LOG in kind.sources:
                ends.sources[Keeper(LOG, hop)] = _made(hop, own, kind.sources[LOG], kind.publisher_only)
            if kind.publisher and (not kind.publisher_needs or kind.publisher_needs in own):
                ends.publishers[hop] = _made(hop, own, kind.publisher, kind.source_only)
        for name in (name for name in BESIDE if name in config):
            place = KINDS[config[name]["kind"]].sources[name]
            about = {"hop": hop} if name == SNAPSHOT else {}  # an archive may hold several
            ends.sources[Keeper(name, hop)] = _made(hop, about | config[name], place)
    return ends


def _made(hop: str, config: Mapping[str, Any], place: str, others: frozenset[str] = frozenset()) -> Any:
    """`others`: keys that are not for this one."""
    name = config["kind"]
    kind, keys = KINDS[name], {key: value for key, value in config.items() if key != "kind"}
    module, _, function = place.partition(":")
    try:
        make: Callable[[Mapping[str, Any]], Any] = getattr(import_module(module), function)
        return make({key: value for key, value in keys.items() if key not in others})
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != kind.library:
            raise
        missing = MissingExtra(f"collector kind {name!r}", kind.extra, kind.library)
        raise CommandError(f"hop {hop!r}: {missing}", UNAVAILABLE) from None
    except CollectorError as error:
        raise CommandError(f"hop {hop!r}: {error}") from None
