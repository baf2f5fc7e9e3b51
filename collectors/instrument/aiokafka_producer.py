"""The producing half of `collectors.instrument.aiokafka`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.producer import TransactionContext

from collectors.carried import Carried
from collectors.clock import now_micros
from collectors.instrument.observe import Observer, stamped_pairs
from tracker.model.event import Stage

Note = partial[bool]
"""Records a `produce`, given where it is: `partition`, `offset`."""


class ObservedProducer:
    """An `AIOKafkaProducer` whose confirmed messages are observed; all that is not here is the producer's own."""

    def __init__(
        self, producer: AIOKafkaProducer, observer: Observer, topics: Collection[str] | None, keys: bool
    ) -> None:
        self._producer, self._observer, self._topics, self._keys = producer, observer, topics, keys
        self._serializes = getattr(producer, "_value_serializer", None) is not None
        self._transaction: list[Note] | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything else: the producer's own."""
        return getattr(self._producer, name)

    async def __aenter__(self) -> ObservedProducer:
        """As the producer: starts it."""
        await self._producer.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        """As the producer: stops it."""
        return await self._producer.__aexit__(*raised)

    async def send(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Any = None,
    ) -> asyncio.Future[Any]:
        """As the producer, with message id and origin time set where absent. Records `produce` when the brokers say
        that they have it (in a transaction: when that was committed), before whoever awaits the future is told; of
        a future that was cancelled nobody is told. Its time is that of this call: the answer may come long after
        somebody else has consumed the message."""
        future, settled = await self._sent(topic, value, key, partition, timestamp_ms, headers)
        if settled is not None:
            future.add_done_callback(settled)
        return future

    async def send_and_wait(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Any = None,
    ) -> Any:
        """As the producer; see `send`."""
        future, settled = await self._sent(topic, value, key, partition, timestamp_ms, headers)
        if settled is None:
            return await future
        try:
            return await future
        finally:  # cheaper than a callback by the loop, and as early: the caller goes on after it
            if future.done():
                settled(future)
            else:
                future.add_done_callback(settled)

    def create_batch(self) -> ObservedBatch:
        """As the producer. Messages get id and origin time as they are appended: the topic is not known yet."""
        return ObservedBatch(self._producer.create_batch(), self._note, self._observer.identity_header)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """As the producer; `produce` of each message of a batch that `create_batch` gave. See `send`."""
        ours, held = isinstance(batch, ObservedBatch), self._transaction
        future: asyncio.Future[Any] = await self._producer.send_batch(
            batch.batch if ours else batch, topic, partition=partition
        )
        if ours and self._watches(topic):
            future.add_done_callback(partial(self._settled, batch.notes, held))
        return future

    async def begin_transaction(self) -> None:
        """As the producer. From here on messages are produced when the transaction is committed."""
        await self._producer.begin_transaction()
        self._transaction = []

    async def commit_transaction(self) -> None:
        """As the producer; then records `produce` for all that the transaction held."""
        await self._producer.commit_transaction()
        held, self._transaction = self._transaction or [], None
        for record in held:
            record()

    async def abort_transaction(self) -> None:
        """As the producer. Nothing of the transaction was produced."""
        await self._producer.abort_transaction()
        self._transaction = None

    def transaction(self) -> TransactionContext:
        """As the producer: commits at the end of the block, aborts when it raises."""
        return TransactionContext(self)

    async def _sent(
        self, topic: str, value: Any, key: Any, partition: int | None, timestamp_ms: int | None, headers: Any
    ) -> tuple[asyncio.Future[Any], Callable[[asyncio.Future[Any]], None] | None]:
        """The future that the producer gives, and what is to be called when it is done; None: it is not observed."""
        if not self._watches(topic):
            return await self._producer.send(topic, value, key, partition, timestamp_ms, headers), None
        headers, said = stamped_pairs(headers, self._observer.identity_header)
        notes, held = (self._note(headers, said, value, key),), self._transaction
        future = await self._producer.send(topic, value, key, partition, timestamp_ms, headers)
        return future, partial(self._settled, notes, held)

    def _watches(self, topic: str) -> bool:
        return self._topics is None or topic in self._topics

    def _note(self, headers: Any, said: Carried | None, value: Any, key: Any) -> Note:
        return partial(
            self._observer.observe, Stage.produce, headers, value, observed_at=now_micros(), said=said,
            key=key if self._keys and isinstance(key, bytes | str) else None,
            # What a serializer makes of a value is not shown to us, and it need not make the same twice.
            digest="" if self._serializes else None,
        )  # fmt: skip

    def _settled(self, notes: Sequence[Note], held: list[Note] | None, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        first = future.result()  # of the only message or the first of a batch; None without acks
        for index, note in enumerate(notes):
            more: dict[str, Any] = {"attributes": {"confirmed": "false"}}
            if first is not None:
                more = {"partition": f"{first.topic}/{first.partition}", "offset": first.offset + index}
            if held is None:
                note(**more)
            else:
                held.append(partial(note, **more))


class ObservedBatch:
    """A `BatchBuilder` whose messages carry ids; all that is not here is its own. `notes`: one for each of them."""

    def __init__(self, batch: Any, note: Callable[[Any, Carried | None, Any, Any], Note], identity: str) -> None:
        self.batch, self.notes = batch, list[Note]()
        self._note, self._identity = note, identity

    def __getattr__(self, name: str) -> Any:
        """Everything else: the batch's own."""
        return getattr(self.batch, name)

    def append(self, *, timestamp: Any, key: Any, value: Any, headers: Any = None) -> Any:
        """As the batch, with message id and origin time set where absent."""
        headers, said = stamped_pairs(headers, self._identity)
        metadata = self.batch.append(timestamp=timestamp, key=key, value=value, headers=headers)
        if metadata is not None:  # None: it is full
            self.notes.append(self._note(headers, said, value, key))
        return metadata
