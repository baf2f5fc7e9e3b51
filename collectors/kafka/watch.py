"""Asks a cluster, beside the reading, which partitions the topics have and where their logs end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

import msgspec
from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from collectors.errors import CollectorError, Unavailable
from collectors.kafka.client import GONE, REQUEST_TIMEOUT, driver_errors
from collectors.kafka.frontier import Slot


class View(msgspec.Struct, frozen=True):
    """What was found: `ends` of every partition that has a leader, `epochs` of these leaders (-1: not told), `topics`
    with their ids, asked after tick `at`.

    `whole` is false when some partition gave no answer: then nothing may be concluded about completeness.
    """

    at: int
    ends: dict[Slot, int]
    topics: dict[str, str]
    partitions: frozenset[Slot]
    whole: bool
    epochs: dict[Slot, int] = {}


class Watch:
    """One question at a time: first the topics' partitions, then the ends of their logs.

    `what` names the cluster in errors. `topics` are names, or patterns that begin with `^` (they cost a listing of all
    topics, which waits). With `committed_only` the ends are those of what a reader with `read_committed` can see.
    """

    def __init__(self, what: str, admin: AdminClient, topics: Iterable[str], committed_only: bool) -> None:
        self._what, self._admin = what, admin
        self._names = [name for name in topics if not name.startswith("^")]
        self._patterns = [re.compile(name) for name in topics if name.startswith("^")]
        self._level = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        self._at = 0
        self._topics: dict[str, str] = {}
        self._partitions: frozenset[Slot] = frozenset()
        self._describing: Mapping[str, Future[Any]] | None = None
        self._ending: Mapping[TopicPartition, Future[Any]] | None = None

    @property
    def asking(self) -> bool:
        """True while an answer is awaited."""
        return self._describing is not None or self._ending is not None

    def ask(self, at: int) -> None:
        """Begin to ask; `at` is the tick of now. Raises `Unavailable` or `ConfigInvalid`."""
        self._at = at
        names = list(self._names)
        with driver_errors(f"{self._what}, listing topics"):
            if self._patterns:
                known = self._admin.list_topics(timeout=REQUEST_TIMEOUT).topics
                names += [n for n in known if n not in names and any(p.match(n) for p in self._patterns)]
            if names:
                self._describing = self._admin.describe_topics(TopicCollection(names), request_timeout=REQUEST_TIMEOUT)
            else:
                self._describing = {}
            self._ending = self._ask_ends()  # for the partitions known so far: mostly they are all there are

    def answer(self, wait: float) -> View | None:
        """The answer, waiting at most `wait` seconds for it; None while there is none. Raises `Unavailable` when the
        cluster does not answer, `ConfigInvalid` when it refuses us."""
        until = time.monotonic() + wait
        if self._describing is not None:
            if not _done(self._describing, wait):
                return None
            described, self._describing = self._describing, None
            ending, self._ending = self._ending, None  # asked for what was known before: no answer if this fails
            self._ending = self._ask_ends() if self._described(described) else ending
        if self._ending is None or not _done(self._ending, max(0.0, until - time.monotonic())):
            return None
        ended, self._ending = self._ending, None
        return self._ended(ended)

    def _described(self, answers: Mapping[str, Future[Any]]) -> bool:
        """Take note of topics and partitions; true when they are not those whose ends are being asked for."""
        found = {
            name: topic for name, future in answers.items() if (topic := _result(future, f"{self._what}, topic {name}"))
        }
        before = (self._topics, self._partitions)
        self._topics = {name: str(topic.topic_id) for name, topic in found.items()}
        self._partitions = frozenset((name, p.id) for name, topic in found.items() for p in topic.partitions)
        return before != (self._topics, self._partitions)

    def _ask_ends(self) -> Mapping[TopicPartition, Future[Any]]:
        if not self._partitions:
            return {}
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        ends = {TopicPartition(name, number): latest for name, number in self._partitions}
        with driver_errors(f"{self._what}, ends of logs"):
            found: Mapping[TopicPartition, Future[Any]] = self._admin.list_offsets(
                ends, isolation_level=self._level, request_timeout=REQUEST_TIMEOUT
            )
        return found

    def _ended(self, answers: Mapping[TopicPartition, Future[Any]]) -> View:
        """The ends that are known. A partition between two leaders has none for now; when none has one, that is an
        error."""
        ends: dict[Slot, int] = {}
        epochs: dict[Slot, int] = {}
        trouble: CollectorError | None = None
        for place, future in answers.items():
            try:
                found = _result(future, f"{self._what}, end of {place.topic}/{place.partition}")
            except Unavailable as error:
                trouble, found = error, None
            if found is not None:
                slot = place.topic, place.partition
                ends[slot], epochs[slot] = found.offset, -1 if found.leader_epoch is None else found.leader_epoch
        if trouble and not ends:
            raise trouble
        return View(self._at, ends, self._topics, self._partitions, len(ends) == len(self._partitions), epochs)


def _done(futures: Mapping[Any, Future[Any]], wait: float) -> bool:
    """Whether all of them are; it is asked with each read, and of ten thousand partitions the first tells mostly."""
    if all(future.done() for future in futures.values()):
        return True
    return wait > 0 and not wait_for(futures.values(), timeout=wait).not_done


def _result(future: Future[Any], what: str) -> Any:
    """The answer, or None when the thing is gone."""
    with driver_errors(what):
        try:
            return future.result()
        except KafkaException as error:
            if error.args[0].code() in GONE:
                return None
            raise
