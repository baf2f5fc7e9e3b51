"""A flow in a box: a broker in memory, a collector and consumers that lag, and the answers a store would give of it.

The control database is a real one. `Scene` says what happened by having done it; nothing here asks `judge`.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash
from msgspec.structs import replace
from sqlalchemy import event
from sqlalchemy.orm import Session

from collectors.carried import carried
from collectors.memory import Config, MemoryBroker, MemoryCollector, MemoryPublisher, MemorySource, Stored, Tailed
from tracker.control import Control
from tracker.control.database import Database, engine_for
from tracker.control.incidents import Counted, Counts
from tracker.control.tokens import Principal
from tracker.model.carry import MESSAGE_ID, REPLAY_ATTEMPT, REPLAY_ID, Copy, Locator, Missing, Sent, Source
from tracker.model.coverage import Coverage, SourceCover
from tracker.model.event import Event, Stage
from tracker.model.spec import FlowSpec, load_spec
from tracker.replay import Automatic, Keeper, Replays, Selection, Worker
from tracker.replay.limits import Limits
from tracker.replay.target import Target
from tracker.store.findings import Finding

T0 = 1_800_000_000_000_000
SECOND = 1_000_000
ANN = Principal("1", "ann", frozenset({"replay"}))
BOB = Principal("2", "bob", frozenset({"replay"}))
SPEC = """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: kafka, stage: persist, after: checkout, within: 5s}
  - {hop: billing, stage: ack, after: kafka, within: 10s}
replay: {sources: [log: kafka], mode: MODE, rate: 1000/s, max_attempts: 3}
"""
POLICY = SPEC.replace("mode: MODE", "mode: auto, budget: 3/h, after: 30s")


class Killed(BaseException):
    """The tracker is gone, as after SIGKILL: nothing of ours may catch it."""


class Fused(Database):
    """A control database whose process can be killed at any moment, or that `raises` something else instead: `fuse`
    says how many moments from now.

    The moments are: before a transaction, inside it before it commits, and after it.
    """

    fuse: int | None = None
    raises: BaseException = Killed()

    def tick(self) -> None:
        """A moment passes. Raises at the one that was chosen."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                raise self.raises

    @contextmanager
    def write(self) -> Iterator[Session]:
        """As `Database.write`."""
        self.tick()
        with super().write() as session:
            yield session
            session.flush()
            self.tick()
        self.tick()


class Letters:
    """A queue of dead letters as one connection sees it, as `collectors.rabbitmq.dead_queue` does: what it fetched
    nobody else gets until it is told, or gone. `queue` is shared: the copies by message, and who holds each."""

    def __init__(self, queue: dict[str, tuple[Copy, object]], tick: Callable[[], None]) -> None:
        self._queue, self._tick = queue, tick
        self.settling: Callable[[Sequence[Locator]], None] = lambda sent: None

    def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
        """Those that nobody else holds."""
        return [self._queue[one][0].locator for one in message_ids if one in self._queue and self._free(one)]

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """Handed out until told."""
        return [self._taken(place) for place in locators]

    def settle(self, sent: Sequence[Locator], kept: Sequence[Locator]) -> None:
        """What was sent is taken out, the rest goes back."""
        self._tick()
        self.settling(sent)
        for place in sent:
            self._queue.pop(place.message_id)
        for place in kept:
            if place.message_id in self._queue:
                self._queue[place.message_id] = self._queue[place.message_id][0], None
        self._tick()

    def close(self) -> None:
        """The connection ends, all that it holds goes back."""
        for one, (copy, holder) in self._queue.items():
            if holder is self:
                self._queue[one] = copy, None

    def _free(self, one: str) -> bool:
        return self._queue[one][1] in (None, self)

    def _taken(self, place: Locator) -> Copy | Missing:
        if place.message_id not in self._queue or not self._free(place.message_id):
            return Missing(place, "it is not in the queue")
        copy = self._queue[place.message_id][0]
        self._queue[place.message_id] = copy, self
        return copy


class Port:
    """A publisher and source on the memory broker that can be told to fail."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._source, self._publisher = MemorySource(broker), MemoryPublisher(broker)
        self.before: Callable[[Sequence[Copy]], None] = lambda copies: None
        self.after: Callable[[Sequence[Copy]], None] = lambda copies: None
        self.reading: Callable[[], None] = lambda: None
        self.refuses = False
        self.lies = False
        self.away = False
        self.unreadable = False
        self.expired: set[str] = set()
        self.wrong: set[str] = set()
        self.batches: list[int] = []

    def fetch(self, locators: Sequence[Locator]) -> list[Copy | Missing]:
        """As `MemorySource`, unless told otherwise."""
        self.reading()
        if self.unreadable:
            raise ConnectionError("no route to the broker")
        return [self._told(found) for found in self._source.fetch(locators)]

    def _told(self, found: Copy | Missing) -> Copy | Missing:
        if found.locator.message_id in self.expired:
            return Missing(found.locator, "retention took it")
        if isinstance(found, Copy) and found.locator.message_id in self.wrong:
            return replace(found, value=b"another payload")
        return found

    def publish(self, copies: Sequence[Copy]) -> list[Sent]:
        """As `MemoryPublisher`, unless told otherwise; `before` and `after` may wait, raise or kill."""
        self.batches.append(len(copies))
        self.before(copies)
        if self.away:
            return [Sent(copy.locator, "not sent: no connection", untried=True) for copy in copies]
        if self.refuses:
            return [Sent(copy.locator, "not enough replicas") for copy in copies]
        answers = self._publisher.publish(copies)
        if self.lies:
            answers = [Sent(copy.locator, "not confirmed in time") for copy in copies]
        self.after(copies)
        return answers

    def close(self) -> None:
        """Nothing to let go of."""


class Scene:
    """Time is `now` (µs) and moves only by `wait`. What was observed, vouched for and found is as a store would say."""

    def __init__(self, folder: Path, mode: str = "auto", empty: Path = Path()) -> None:
        self.now = T0
        self.database = _control(folder, empty)
        self.control = Control(self.database)
        self.put(SPEC.replace("MODE", mode))
        self.broker = MemoryBroker(clock=lambda: self.now)
        config = Config(topics=[Tailed("orders", "orders", "kafka")])
        self.collector = MemoryCollector("tail", config, self.broker, lambda: self.now)
        self.port = Port(self.broker)
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.found: dict[str, Finding] = {}
        self.covered = T0
        self.announced = True
        self.key: Callable[[str], str] = lambda message_id: "k"
        self.queue: dict[str, tuple[Copy, object]] = {}
        self.letters: list[Letters] = []
        self.replays = self.service()

    # --- what happens ---------------------------------------------------------------------------------------------

    def put(self, text: str) -> FlowSpec:
        """Put a flow spec as the API does."""
        spec = load_spec(text)
        points = [(hop, c.stage.value) for c in spec.checkpoints for hop in c.hop]
        self.control.flows.put(spec.flow, text, spec.model_dump_json(), self.now, "test", spec.hops, points)
        return spec

    def service(self, **options: Any) -> Replays:
        """The service as a freshly started tracker has it."""
        self.letters.append(Letters(self.queue, self.database.tick))
        sources: dict[Keeper, Source] = {
            Keeper("log", "kafka"): self.port,
            Keeper("dead_letter", "billing"): self.letters[-1],
        }
        return Replays(self, self.control, sources, {"kafka": self.port}, lambda: self.now, **options)

    def automatic(self, owner: str = "p", targets: Mapping[str, Target] | None = None, **more: Any) -> Automatic:
        """The policy's part of a freshly started tracker, whose sender knows these targets."""
        service = self.service()
        service.worker().sender.targets.update(targets or {})
        return Automatic(
            self, self.control, service, clock=lambda: self.now,
            steady=lambda: self.now / SECOND, owner=owner, **more,
        )  # fmt: skip

    def worker(self, owner: str = "w", limits: Limits | None = None) -> Worker:
        """A worker as a freshly started tracker has it, without jitter; its connections are the newest."""
        return Worker(
            self, self.control, self.service().ports, lambda: self.now, lambda: self.now / SECOND, owner,
            limits or Limits(), lambda low, high: high,
        )  # fmt: skip

    def rounds(self, worker: Worker, count: int = 2, pause: float = 1.0) -> None:
        """So many rounds of a worker, with a pause after each."""
        for _ in range(count):
            worker.step()
            self.wait(pause)

    def lose(self, *message_ids: str) -> None:
        """Messages reach the log, the collector sees them, billing does not, and a finding is opened for each."""
        for message_id in message_ids:
            key = self.key(message_id).encode()
            self.broker.append("orders", message_id.encode() * 3, key, {MESSAGE_ID: message_id.encode()})
        self.observe()
        for message_id in message_ids:
            self.find(message_id)

    def bury(self, *message_ids: str) -> None:
        """Billing put these aside as dead letters, too."""
        for one in message_ids:
            place = Locator(one, "billing", "dead", 0)
            value = one.encode() * 3
            self.queue[one] = Copy(place, self.key(one).encode(), value, {MESSAGE_ID: one.encode()}, ""), None

    def find(
        self, message_id: str, status: str = "open", hop: str = "billing", kind: str = "unacknowledged", cause: str = ""
    ) -> None:
        """A finding, or what became of it."""
        self.found[message_id] = Finding(
            finding_id=f"f-{message_id}", flow="orders", message_id=message_id, hop=hop, stage="ack",
            kind=kind, status=status, incident="i-1", opened_at=self.now, known_at=self.now, cause=cause,
        )  # fmt: skip

    def count(self) -> None:
        """The incident is brought up to date, as at the end of a pass."""
        found = list(self.found.values())
        open_ = sum(one.status == "open" for one in found)
        first, last = (pick(one.opened_at for one in found) for pick in (min, max))
        self.control.incidents.upsert(
            Counted(
                id="i-1", flow="orders", hop=found[0].hop, kind=found[0].kind, first_finding_at=first,
                last_finding_at=last, counts=Counts(open=open_, total=len(found), recovered=len(found) - open_),
            ), self.now
        )  # fmt: skip

    def observe(self) -> None:
        """The collector catches up with the log, and vouches for all until now."""
        raws = self.collector.read(10_000, 0)
        for raw in raws:
            for seen in self.collector.decode(raw):
                assert isinstance(seen, Event)
                self.events[seen.message_id].append(seen)
        self.covered = self.now

    def consume(self, *message_ids: str) -> None:
        """Billing acknowledges; the reconciler sees it."""
        for message_id in message_ids:
            self.find(message_id, "recovered")

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += round(seconds * SECOND)

    # --- what is asked of a store ---------------------------------------------------------------------------------

    def findings(
        self, flow=None, hop=None, kind=None, status=None, incident=None, *, message_ids=None, after=None, limit=100
    ) -> list[Finding]:
        """As `Store.findings`."""
        wanted = {"flow": flow, "hop": hop, "kind": kind, "status": status, "incident": incident}
        same = [
            f for f in self.found.values()
            if all(value is None or getattr(f, name) == value for name, value in wanted.items())
            and (message_ids is None or f.message_id in message_ids)
        ]  # fmt: skip
        same.sort(key=lambda f: (f.opened_at, f.finding_id), reverse=True)
        if after:
            at, _, last = after.partition("-")
            same = [f for f in same if (f.opened_at, f.finding_id) < (int(at), last)]
        return same[:limit]

    def oldest_open(
        self, flow: str, kinds: Sequence[str], until: int, after: tuple[int, str], limit: int
    ) -> list[Finding]:
        """As `Store.oldest_open`."""
        same = [
            f for f in self.found.values()
            if f.flow == flow and f.kind in kinds and f.status == "open" and not f.cause and f.opened_at <= until
            and (f.opened_at, f.finding_id) > after
        ]  # fmt: skip
        return sorted(same, key=lambda f: (f.opened_at, f.finding_id))[:limit]

    def events_of(self, flow: str, ids: Sequence[str], bounds: Any) -> dict[str, list[Event]]:
        """As `Store.events_of`."""
        return {one: list(self.events[one]) for one in ids if one in self.events}

    def coverage(self, spec: FlowSpec) -> Coverage:
        """As `Store.coverage`: one source per checkpoint, vouched for until the collector last caught up."""
        if not self.announced:
            return Coverage()
        cover = [SourceCover("s", ((T0 - SECOND, self.covered),))]
        return Coverage({("kafka", "persist"): cover, ("billing", "ack"): cover})

    def carrying(
        self,
        flow: str,
        message_ids: Sequence[str],
        key_hash: int | None,
        reason: str | None,
        attributes: Mapping[str, str],
    ) -> list[str]:
        """As `Store.carrying`, for keys as they are stored: hashed by the salt of the installation."""

        def hashed(key: str) -> int:
            return xxhash.xxh3_64_intdigest(key.encode(), seed=self.control.settings.key_salt())

        return [
            one for one in message_ids
            if (key_hash is None or any(hashed(seen.key) == key_hash for seen in self.events.get(one, ())))
            and (reason is None or any(seen.reason == reason for seen in self.events.get(one, ())))
            and all(any(seen.attributes.get(name) == value for seen in self.events.get(one, ()))
                    for name, value in attributes.items())
        ]  # fmt: skip

    def keys(self, flow: str, message_ids: Sequence[str]) -> dict[str, str]:
        """As `Store.keys`."""
        return {one: self.key(one) for one in message_ids}

    def locators(self, flow: str, message_ids: Sequence[str], hop: str) -> list[Locator]:
        """As `Store.locators`."""
        newest = {}
        for one in message_ids:
            for seen in self.events.get(one, ()):
                if seen.hop == hop and seen.stage == Stage.persist and seen.offset is not None:
                    newest[one] = Locator(one, hop, seen.partition, seen.offset)
        return list(newest.values())

    # --- what is true ---------------------------------------------------------------------------------------------

    def arrived(self) -> list[tuple[str, str, int]]:
        """(message, replay, attempt) of every record that a replay put into the log, in order."""
        return [
            (said.message_id, said.replay_id, said.attempt or 0)
            for said in map(_carried, self.records())
            if said.replay_id
        ]

    def records(self) -> list[Stored]:
        """Everything in the log."""
        return [record for slot in self.broker.slots(["orders"]) for record in self.broker.fetch(slot, 0, 100_000)]

    def states(self, replay_id: str) -> dict[str, str]:
        """The state of every message of a replay."""
        return {m.message_id: m.state for m in self.control.messages.page(replay_id, limit=1000).items}

    def ordinals(self, replay_id: str) -> dict[str, int]:
        """The place of every message in the order of sending."""
        return {m.message_id: m.ordinal for m in self.control.messages.page(replay_id, limit=1000).items}

    def errors(self, replay_id: str) -> dict[str, str]:
        """What is said of every message of a replay."""
        return {m.message_id: m.error for m in self.control.messages.page(replay_id, limit=1000).items}

    def start(self, *message_ids: str, by: Principal = ANN) -> str:
        """Ask for a replay of these, or of all that is open; its id."""
        return self.replays.create(Selection(flow="orders", message_ids=message_ids), by, "a test").replay.id

    def audited(self, replay_id: str) -> list[tuple[str, str]]:
        """(who, what) of the audit log, of one replay."""
        return [(e.who, e.what) for e in self.control.audit.entries(subject=f"replay/{replay_id}").items]

    def close(self) -> None:
        """Let go of the file."""
        self.control.close()


def _control(folder: Path, empty: Path) -> Fused:
    """A copy of an empty database. It does not wait for the disk: here processes die, machines do not."""
    shutil.copy(empty, folder / "control.db")
    engine = engine_for(f"sqlite:///{folder}/control.db")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return Fused(engine)


def _carried(record: Stored):
    return carried(record.headers)


__all__ = ["ANN", "BOB", "REPLAY_ATTEMPT", "REPLAY_ID", "SECOND", "T0", "Killed", "Port", "Scene"]
