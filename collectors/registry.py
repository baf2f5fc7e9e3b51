"""Which kinds of collectors there are. A kind is imported when a configuration names it, so that an installation
needs only the client libraries of the systems it watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from collectors.archiving import Archiving
from collectors.base import Collector
from collectors.draft import Asked, Found
from collectors.errors import ConfigInvalid, MissingExtra

Factory = Callable[[str, Mapping[str, Any]], Collector]
"""(name, settings without name and kind) -> collector. Raises `ConfigInvalid` naming the key; connects later."""


def _never(_: Mapping[str, Any]) -> bool:
    return False


def _always(_: Mapping[str, Any]) -> bool:
    return True


class Kind(NamedTuple):
    """`module:function` of the factory; the extra that brings `library`, or several (none: the base does).
    `name_inside`: the factory takes the name as a setting like the others. `remembers`: it takes the collector's own
    folder, too, to keep something there. `own_clock`: whether, with these settings,
    it dates what it observes by its own wall clock, not by the broker's."""

    factory: str
    extra: str = ""
    library: str = ""
    name_inside: bool = False
    remembers: bool = False
    own_clock: Callable[[Mapping[str, Any]], bool] = _never


def _copies(config: Mapping[str, Any]) -> bool:
    """What a mirror wrote: its timestamps are those of the originals."""
    return any(route.get("stage") == "replicate" for route in config.get("topics") or config["streams"])


KINDS: Mapping[str, Kind] = {
    "memory": Kind("collectors.memory:tail"),
    "activemq": Kind("collectors.activemq.advisories:advisories", remembers=True, own_clock=_always),
    "kafka": Kind("collectors.kafka.tail:tail", "kafka", "confluent_kafka", own_clock=_copies),
    "kafka-groups": Kind("collectors.kafka.groups:groups", "kafka", "confluent_kafka", own_clock=_always),
    "mqtt": Kind("collectors.mqtt:subscribe", "mqtt", "paho", remembers=True, own_clock=_always),
    "nats": Kind("collectors.nats.tail:tail", "nats", "nats", own_clock=_copies),
    "postgres-outbox": Kind("collectors.postgres.outbox:outbox", "postgres", "psycopg", remembers=True),
    "postgres-outbox-poll": Kind("collectors.postgres.poll:poll", "postgres", "psycopg", own_clock=_always),
    "rabbitmq": Kind("collectors.rabbitmq.firehose:firehose", "rabbitmq", "pika", name_inside=True, own_clock=_always),
    "rabbitmq-dead-letters": Kind(
        "collectors.rabbitmq.dead_letters:dead_letters", "rabbitmq", "pika", name_inside=True, own_clock=_always
    ),
    "rabbitmq-stream": Kind(
        "collectors.rabbitmq.stream:streams", "rabbitmq", "pika", name_inside=True, own_clock=_always
    ),
    "redis-streams": Kind("collectors.redis.streams:streams", "redis", "redis", own_clock=_always),
}


DISCOVERERS: Mapping[str, Kind] = {
    "kafka": Kind("collectors.kafka.discover:discover", "kafka", "confluent_kafka"),
    "amqp": Kind("collectors.rabbitmq.discover:discover", "rabbitmq", "pika"),
    "amqps": Kind("collectors.rabbitmq.discover:discover", "rabbitmq", "pika"),
    "nats": Kind("collectors.nats.discover:discover", "nats", "nats"),
    "postgres": Kind("collectors.postgres.discover:discover", "postgres", "psycopg"),
    "postgresql": Kind("collectors.postgres.discover:discover", "postgres", "psycopg"),
    "redis": Kind("collectors.redis.discover:discover", "redis", "redis"),
    "rediss": Kind("collectors.redis.discover:discover", "redis", "redis"),
    "stomp": Kind("collectors.activemq.discover:discover"),
    "stomp+ssl": Kind("collectors.activemq.discover:discover"),
}
"""By the scheme of a URL: who looks at a live system of that kind."""

ARCHIVE = Kind("collectors.archive.writer:archive", "archive", "pyarrow fsspec cryptography numpy")
ARCHIVES = ARCHIVE._replace(factory="collectors.archive.shown:archives")

EXPOSITION = Kind("collectors.exposition:exposition", "metrics", "prometheus_client")


def factory(kind: str, folder: Path | None = None) -> Factory:
    """The factory of a kind. `folder`: the collector's own, None where nothing is to be remembered. Raises
    `ConfigInvalid` for an unknown kind, `MissingExtra` when its library is missing."""
    found = KINDS.get(kind)
    if found is None:
        raise ConfigInvalid(f"unknown kind {kind!r}; there are {', '.join(sorted(KINDS))}")
    made = _imported(found.factory, found, f"collector kind {kind!r}")
    if found.name_inside:
        return lambda name, config: made({**config, "name": name})
    if found.remembers:
        return lambda name, config: made(name, config, folder)
    return made


def discoverer(scheme: str) -> Callable[[str, str, Asked], Found]:
    """Who looks at systems with such URLs. Raises `ConfigInvalid` for unknown ones, `MissingExtra`."""
    found = DISCOVERERS.get(scheme)
    if found is None:
        raise ConfigInvalid(f"no system is known by {scheme}://; there are {', '.join(f'{s}://' for s in DISCOVERERS)}")
    return _imported(found.factory, found, f"looking at {scheme}://")


def exposition() -> Callable[..., Callable[[], bytes]]:
    """What writes metrics as Prometheus reads them. Raises `MissingExtra`."""
    return _imported(EXPOSITION.factory, EXPOSITION, "`listen`")


def archive() -> Callable[..., Archiving]:
    """What makes the archive of a collector (`collectors.archive.writer.archive`). Raises `MissingExtra`."""
    return _imported(ARCHIVE.factory, ARCHIVE, "`archive`")


def archives() -> Callable[..., Any]:
    """What opens archives to look at (`collectors.archive.shown.archives`). Raises `MissingExtra`."""
    return _imported(ARCHIVES.factory, ARCHIVES, "looking at an archive")


def _imported(place: str, kind: Kind, what: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    try:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in kind.library.split():
            raise MissingExtra(what, kind.extra, library) from error
        raise
