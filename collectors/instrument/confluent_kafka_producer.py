"""The producing half of `collectors.instrument.confluent_kafka`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from collectors.carried import Carried
from collectors.clock import now_micros
from collectors.instrument.observe import Observer, stamped_pairs
from tracker.model.event import Stage

Settled = Callable[[KafkaError | None, Message], Any]


class ObservedProducer:
    """A `Producer` whose confirmed messages are observed; all that is not here is the producer's own."""

    def __init__(self, producer: Producer, observer: Observer, topics: Collection[str] | None, keys: bool) -> None:
        self._producer, self._observer, self._topics, self._keys = producer, observer, topics, keys
        self._transaction: list[Callable[[], object]] | None = None

    def __getattr__(self, name: str) -> Any:
        """Everything else: the producer's own."""
        return getattr(self._producer, name)

    def __len__(self) -> int:
        """As the producer: messages not yet confirmed."""
        return len(self._producer)

    def __bool__(self) -> bool:
        """As the producer: always true."""
        return True

    def __enter__(self) -> ObservedProducer:
        """As the producer: for `with`."""
        self._producer.__enter__()
        return self

    def __exit__(self, *raised: Any) -> Any:
        """As the producer."""
        return self._producer.__exit__(*raised)

    def produce(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int = -1,
        callback: Settled | None = None,
        on_delivery: Settled | None = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        """As the producer, with message id and origin time set where absent. Records `produce` when the delivery
        report says that the brokers have it (in a transaction: when that was committed), then calls `on_delivery`.
        Its time is that of this call: the report may come long after somebody else has consumed the message."""
        settled = on_delivery or callback
        if self._topics is None or topic in self._topics:
            headers, said = stamped_pairs(headers, self._observer.identity_header)
            settled = partial(self._settled, headers, said, now_micros(), settled)
        self._producer.produce(
            topic, value=value, key=key, partition=partition, on_delivery=settled, timestamp=timestamp, headers=headers
        )

    def produce_batch(
        self,
        topic: str,
        messages: list[dict[str, Any]],
        partition: int = -1,
        callback: Settled | None = None,
        on_delivery: Settled | None = None,
    ) -> int:
        """As the producer, one by one: the driver's own batches carry no headers, and so no ids."""
        queued = 0
        for message in messages:
            settled = message.get("callback") or on_delivery or callback
            try:
                self.produce(
                    topic, message.get("value"), message.get("key"), message.get("partition", partition),
                    on_delivery=settled, timestamp=message.get("timestamp", 0), headers=message.get("headers"),
                )  # fmt: skip
                queued += 1
            except BufferError as error:
                message["_error"] = KafkaError(KafkaError._QUEUE_FULL, str(error))
            except KafkaException as error:
                message["_error"] = error.args[0]
        return queued

    def begin_transaction(self) -> None:
        """As the producer. From here on messages are produced when the transaction is committed."""
        self._producer.begin_transaction()
        self._transaction = []

    def commit_transaction(self, timeout: float = -1) -> None:
        """As the producer; then records `produce` for all that the transaction held."""
        self._producer.commit_transaction(timeout)
        held, self._transaction = self._transaction or [], None
        for record in held:
            record()

    def abort_transaction(self, timeout: float = -1) -> None:
        """As the producer. Nothing of the transaction was produced."""
        self._producer.abort_transaction(timeout)
        self._transaction = None

    def _settled(
        self,
        headers: Any,
        said: Carried | None,
        at: int,
        settled: Settled | None,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        if error is None:
            shared = self._observer.share(
                headers, message.value(), said=said,
                partition=f"{message.topic()}/{message.partition()}", offset=message.offset(),
                key=message.key() if self._keys else None,
            )  # fmt: skip
            if self._transaction is None:
                self._observer.tell(Stage.produce, shared, observed_at=at)
            else:
                self._transaction.append(partial(self._observer.tell, Stage.produce, shared, observed_at=at))
        if settled is not None:
            settled(error, message)
