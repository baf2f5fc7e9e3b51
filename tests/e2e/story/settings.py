"""What an application of the story is told: a JSON file, whose path is its only argument."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is the process to the tracker: collector, source and node. `folder` holds its spool and what it writes
    down. `broker` with `topic` and `group` (Kafka) or `exchange` and `queue` (RabbitMQ) is where it works.

    Producers send `count` messages at `rate` per second. A consumer with `skips` goes past some of them (see
    `orders.skipped`); with `dies_after` it gets SIGKILL in mid-batch, by its own hand, so that the moment is known.
    """

    tracker: str
    token: str
    folder: str
    name: str
    flow: str
    hop: str
    broker: str
    topic: str = ""
    group: str = ""
    exchange: str = ""
    queue: str = ""
    count: int = 0
    rate: float = 0.0
    skips: bool = False
    dies_after: int = 0

    def file(self, name: str) -> Path:
        """A file of this application's."""
        return Path(self.folder) / name


def told() -> Settings:
    """The settings that this process was started with."""
    return msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Settings)
