"""A stream of a test's own on a real NATS server, used as an application does: by its client library, synchronously."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from tracker.model.carry import MESSAGE_ID


class Stream:
    """`name` catches the subjects `name.>`. `js`: what the application has; `do` waits for what it does."""

    def __init__(self, url: str, **config: Any) -> None:
        self.url, self.name, self.config = url, f"S{uuid.uuid4().hex[:12]}", config
        self._runner = asyncio.Runner()
        self.connect()
        self.create()

    def connect(self) -> None:
        """As a client that comes anew."""
        self.client: Any = self.do(nats.connect(self.url, user="app", password="app", allow_reconnect=False))
        self.js: Any = self.client.jetstream()

    def do(self, work: Any) -> Any:
        """What comes of it."""
        return self._runner.run(work)

    def create(self) -> None:
        """Make the stream."""
        self.do(self.js.add_stream(**{"name": self.name, "subjects": [f"{self.name}.>"], **self.config}))

    def update(self, **config: Any) -> None:
        """Change its configuration."""
        self.config |= config
        self.do(self.js.update_stream(**{"name": self.name, "subjects": [f"{self.name}.>"], **self.config}))

    def delete(self) -> None:
        """Delete the stream."""
        self.do(self.js.delete_stream(self.name))

    def put(self, ids: Sequence[str], value: bytes = b"{}", **headers: str) -> None:
        """Publish, and wait until each is stored."""
        for one in ids:
            self.do(self.js.publish(f"{self.name}.new", value, headers={MESSAGE_ID: one, **headers}))

    def consumer(self, name: str = "billing", **config: Any) -> Any:
        """A durable pull consumer, to fetch from."""
        about = ConsumerConfig(durable_name=name, **{"ack_policy": AckPolicy.EXPLICIT, **config})
        self.do(self.js.add_consumer(self.name, about))
        return self.do(self.js.pull_subscribe(f"{self.name}.>", durable=name, stream=self.name))

    def take(self, consumer: Any, count: int) -> list[Any]:
        """So many messages of it."""
        found: list[Any] = []
        while len(found) < count:
            found += self.do(consumer.fetch(count - len(found), timeout=5))
        return found

    def content(self) -> tuple[Any, ...]:
        """What the stream shows of itself."""
        info = self.do(self.js.stream_info(self.name))
        state = info.state
        return state.messages, state.first_seq, state.last_seq, state.consumer_count, state.bytes

    def close(self) -> None:
        """Delete what is left, and the connection."""
        for name in self.do(self._names()):
            if name == self.name or name.startswith((f"TRACKER_{self.name}_", f"TRACKED_{self.name}=")):
                self.do(self.js.delete_stream(name))
        self.do(self.client.close())
        self._runner.close()

    async def _names(self) -> list[str]:
        try:
            return [info.config.name for info in await self.js.streams_info()]
        except NotFoundError:
            return []


@contextmanager
def own_stream(url: str, **config: Any) -> Iterator[Stream]:
    """Gone afterwards."""
    stream = Stream(url, **config)
    try:
        yield stream
    finally:
        stream.close()
