"""Which brokers replays read from and send to: the file that TRACKER_HOPS names.

    kafka-eu:  {kind: kafka, url: "127.0.0.1:9092", topic: orders}
    rabbit-eu: {kind: rabbitmq, url: "amqp://guest:guest@127.0.0.1/", queue: orders}

A hop is named as in flow specs. The keys beside `kind` are those of the broker's source and publisher.
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


@dataclass(frozen=True, slots=True)
class Kind:
    """`module:function` of what makes a source and a publisher; empty where there is none. `extra` brings `library`.
    Keys that only one of the two knows are kept from the other."""

    extra: str
    library: str
    source: str = ""
    publisher: str = ""
    source_only: frozenset[str] = frozenset()
    publisher_only: frozenset[str] = frozenset()


KINDS: Mapping[str, Kind] = {
    "kafka": Kind(
        "kafka",
        "confluent_kafka",
        source="collectors.kafka.source:source",
        publisher="collectors.kafka.publisher:publisher",
        source_only=frozenset({"id", "identity_header"}),
        publisher_only=frozenset({"topic"}),
    ),
    "rabbitmq": Kind("rabbitmq", "pika", publisher="collectors.rabbitmq.publisher:publisher"),
}


@dataclass
class Ends:
    """Sources and publishers by hop; close them when the service ends."""

    sources: dict[str, Source] = field(default_factory=dict)
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
        if not isinstance(config, dict) or config.get("kind") not in KINDS:
            raise CommandError(f"{path}: hop {hop!r} needs `kind`: one of {', '.join(sorted(KINDS))}")
    return found


def build(hops: Mapping[str, Mapping[str, Any]]) -> Ends:
    """Makes what each hop's kind offers. Raises CommandError that names the hop."""
    ends = Ends()
    for hop, config in hops.items():
        kind = KINDS[config["kind"]]
        keys = {name: value for name, value in config.items() if name != "kind"}
        if kind.source:
            ends.sources[hop] = _made(hop, config["kind"], kind.source, keys, kind.publisher_only)
        if kind.publisher and (not kind.publisher_only or kind.publisher_only <= keys.keys()):
            ends.publishers[hop] = _made(hop, config["kind"], kind.publisher, keys, kind.source_only)
    return ends


def _made(hop: str, name: str, place: str, keys: Mapping[str, Any], others: frozenset[str]) -> Any:
    kind = KINDS[name]
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
