"""What a system that pushes proves, and the law behind it, on a model of such a system: `hypothesis` tries orders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.base import Raw
from collectors.inbox import Inbox
from collectors.pushed import ROOM, SLACK, Count, Known, Pushed
from tracker.model.coverage import SourceRef

REFS = [SourceRef("orders", "broker", "persist", "one")]
WINDOW, QUEUE = 6, 3
FORGETS = 30_000
"""Microseconds after which the count of the model is told no more."""
NAMES = ["publish", "publish", "give", "give", "read", "commit", "ask", "count", "cut", "kill", "other"]
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 10)), min_size=5, max_size=25)
END = ["arrive", "read", "read", "read", "commit", "commit", "commit", "ask", "arrive", "read", "read"]


class System:
    """Gives at most `WINDOW` records that are not acknowledged, keeps `QUEUE` more, also for who is away, and answers
    in order. Of each moment it knows whether what was published by then has been lost for us."""

    def __init__(self, keeps: bool = True, folder: Path | None = None) -> None:
        self.now = 1_000_000_000
        self.keeps, self.path = keeps, folder / "known" if folder else None
        self.dropped, self.began, self.changed = 0, 0, 0
        self.open: list[int] = []  # given, not acknowledged
        self.queue: list[int] = []
        self.wire: list[tuple[str, int]] = []  # on its way to us
        self.at: dict[int, int] = {}  # when each was published
        self.seen: set[int] = set()
        self.vouched: list[tuple[int, int]] = []
        self.missing: set[int] = set()  # published in a span that was vouched for, and not read by then
        self.reached: int | None = None  # also by an earlier process: what it vouched for goes on
        self.session = False
        self.start()

    def start(self) -> None:
        """A process of ours begins, and connects."""
        self.inbox = Inbox(REFS, self.clock)
        self.pushed = Pushed("a", self.inbox, WINDOW, self.keeps, 10**9, self.clock, self.path)
        self.read: list[Raw] = []
        self.questions = 0
        self.connect()

    def clock(self) -> int:
        """Moves on with each look."""
        self.now += 1
        return self.now

    def connect(self) -> None:
        """What was given and not acknowledged is given again."""
        self.pushed.begins()
        self.pushed.goes_on(self.session)
        self.session = True
        self.queue, self.open, self.wire = self.open + self.queue, [], []
        self._give()

    def publish(self) -> None:
        """By others."""
        number = len(self.at)
        self.at[number] = self.clock()
        if len(self.open) >= WINDOW and len(self.queue) >= QUEUE:
            self.other()
        else:
            self.queue.append(number)
        self._give()

    def _give(self) -> None:
        while self.queue and len(self.open) < WINDOW:
            self.open.append(self.queue.pop(0))
            self.wire.append(("record", self.open[-1]))

    def give(self) -> None:
        """One packet arrives."""
        if not self.wire:
            return
        kind, value = self.wire.pop(0)
        if kind == "record":
            self.pushed.came(value + 1)
            self.pushed.learned(heard=True)
            self.inbox.put(Raw(str(value).encode(), position=(self.pushed.connection, value + 1)))
        elif kind == "answer":
            self.pushed.answered(value, True)
        else:
            self.pushed.counts()
            still = 0 if value >= 0 else self.now - FORGETS + 1500
            if self.pushed.told(self.began, value if value >= 0 else None, still):
                self.connect()

    def take(self) -> None:
        """As the runner does: read, then ask what is vouched for."""
        taken = self.inbox.take(4)
        self.read += taken
        self.seen |= {int(raw.value) for raw in taken}
        sources, lag = self.inbox.sources(), self.inbox.lag()
        if sources == []:
            self.reached = None
        elif sources:
            reached = self.now - lag.ms * 1000
            if self.reached is not None and reached > self.reached:
                self.vouched.append((self.reached, reached))
                self.missing |= {one for one, at in self.at.items() if self.reached < at <= reached} - self.seen
            self.reached = reached if self.reached is None else max(self.reached, reached)

    def commit(self) -> None:
        """Some of what was read."""
        done = self.pushed.settled(raw.position for raw in self.read[:3])
        del self.read[:3]
        self.open = [one for one in self.open if one + 1 not in done]
        self._give()
        self.ask()

    def ask(self) -> None:
        """A question, which the system takes at once."""
        self.questions += 1
        self.pushed.asks(self.questions)
        self.wire.append(("answer", self.questions))

    def count(self) -> None:
        """The system tells its count; not where it has been the same for a while."""
        self.wire.append(("count", self.dropped if self.now - self.changed < FORGETS else -1))

    def other(self) -> None:
        """Something is dropped, of anybody's."""
        self.dropped, self.changed = self.dropped + 1, self.clock()

    def arrive(self) -> None:
        """All of it."""
        while self.wire:
            self.give()

    def step(self, name: str, times: int = 1) -> None:
        """One of `NAMES`, or another method."""
        self.now += 1500
        if name == "read":
            self.take()
        elif name == "cut":
            self.connect()
        elif name == "kill":
            self.start()
        else:
            for _ in range(times):
                getattr(self, name)()


def calm(folder: Path | None = None, **more: bool) -> System:
    """One that has been read from, and whose count is known."""
    system = System(folder=folder, **more)
    system.publish()
    for name in ("arrive", "ask", "count", "arrive", "read", "commit", "arrive", "ask", "arrive", "read", "read"):
        system.step(name)
    assert system.pushed.known.count is not None
    return system


@settings(max_examples=600, deadline=None)
@given(keeps=st.booleans(), steps=STEPS)
def test_nothing_is_missing_in_a_span_that_was_vouched_for(
    tmp_path_factory: pytest.TempPathFactory, keeps: bool, steps: list[tuple[str, int]]
):
    """Whatever is lost, and whenever: each connection and process tells a hole where it may have been."""
    system = calm(tmp_path_factory.mktemp("pushed"), keeps=keeps)
    for name, times in steps:
        system.step(name, times)
    for name in [*END, *END, "count", *END, "count", *END]:
        system.step(name)
    assert system.missing == set()


def test_it_does_vouch():
    """Also behind a burst, a cut connection and a restart, where nothing was lost."""
    for what in ("cut", "kill"):
        system = calm()
        if what == "kill":
            system.path = None
        before = system.reached
        system.step("publish", 3)
        system.step("cut")
        for name in ("arrive", "ask", "count", "arrive", "read", "read"):
            system.step(name)
        assert (system.reached or 0) > (before or 0)
        assert len(system.vouched) > 1


@pytest.mark.parametrize("hole", [False, True])
def test_a_restart_is_a_hole_only_where_something_was_dropped(tmp_path: Path, hole: bool):
    """The count of before is remembered."""
    system = calm(tmp_path)
    if hole:
        system.other()
    system.step("kill")
    for name in ("ask", "count", "arrive"):
        system.step(name)
    assert system.inbox.take(1) == []
    assert (system.inbox.sources() == []) == hole


def test_a_hole_that_nobody_was_told_is_not_forgotten(tmp_path: Path):
    """A process that ends before it was asked for it leaves it to the next one."""
    system = calm(tmp_path)
    system.session = False
    system.step("cut")
    for name in ("ask", "count", "arrive", "ask", "arrive"):
        system.step(name)
    assert system.pushed.known.count is not None
    system.step("kill")
    system.inbox.take(1)
    assert system.inbox.sources() == []


@pytest.mark.parametrize(("away", "hole"), [(1000, False), (2 * FORGETS, True)])
def test_a_count_that_is_told_no_more(tmp_path: Path, away: int, hole: bool):
    """It did not change for a while: enough for who was away for less."""
    system = calm(tmp_path)
    system.changed = system.now - 10 * FORGETS
    for name in ("ask", "count", "arrive", "ask", "arrive", "read"):
        system.step(name)
    system.now += away
    system.step("kill")
    for name in ("ask", "count", "arrive", "ask", "arrive"):
        system.step(name)
    system.inbox.take(1)
    assert (system.inbox.sources() == []) == hole


def test_a_full_window_before_the_first_count_is_a_hole():
    """There is nothing to compare with."""
    system = System()
    system.publish()
    for name in ("ask", "arrive", "read", "read"):
        system.step(name)
    assert system.reached is not None
    system.step("publish", WINDOW)
    system.arrive()
    for name in ("read", "read", "commit", "arrive", "ask", "arrive", "count", "arrive"):
        system.step(name)
    system.inbox.take(9)
    assert system.inbox.sources() == []


def test_so_many_on_their_way_that_there_may_have_been_no_room():
    """Although they are not to be acknowledged, the count decides; and what was dropped then may come on a new
    connection."""
    system = calm()
    system.pushed.asks(100)
    for _ in range(ROOM):
        system.pushed.came(0)
    system.pushed.answered(100, True)
    system.other()
    before = system.pushed.began
    for name in ("ask", "arrive", "ask", "count", "arrive", "read"):
        system.step(name)
    assert system.reached is None
    assert system.pushed.began > before


@pytest.mark.parametrize("how", ["fleeting", "expiring"])
def test_what_is_not_kept(how: str):
    """A hole at once, and at each connection; but for that it goes on."""
    system = calm()
    system.pushed.learned(**{how: True})
    for _ in range(2):
        system.step("read")
        assert system.reached is None
        for name in ("ask", "count", "arrive", "read", "ask", "count", "arrive", "read", "read"):
            system.step(name)
        assert system.reached is not None
        system.step("cut")


def test_where_the_count_is_all_there_is_it_is_told_twice(tmp_path: Path):
    """What it has counted last may have been dropped behind what was read; a second one shows what is behind that."""
    system = calm(tmp_path, keeps=False)
    for _ in range(2):
        system.step("ask")
        system.step("arrive")
        system.other()
        for _ in range(2):
            system.step("count")
            system.step("arrive")
        system.step("read")
        system.step("read")
        assert system.reached is None
    for name in ("ask", "arrive", "count", "arrive", "read"):
        system.step(name)
    assert system.reached is not None


def test_nothing_is_vouched_for_before_something_came():
    """We may not be let to read it. Nor by answers that prove nothing."""
    system = System()
    for name in ("ask", "count", "arrive", "read", "read"):
        system.step(name)
    assert system.inbox.sources() is None
    system.publish()
    system.give()
    system.pushed.asks(50)
    system.pushed.answered(50, False)
    system.take()
    assert system.inbox.sources() is None


def test_something_else_is_watched_than_before(tmp_path: Path):
    """What was known is of no use, and what the system keeps is not wanted."""
    path = tmp_path / "known"
    inbox = Inbox(REFS, lambda: 10**9)
    one = Pushed("a", inbox, WINDOW, True, 10**9, lambda: 10**9, path)
    one.learned(heard=True)
    assert not one.other
    two = Pushed("b", inbox, WINDOW, True, 10**9, lambda: 10**9, path)
    assert (two.other, two.known) == (True, Known("b"))
    two.goes_on(False)
    assert not two.other


def test_a_run_is_known_by_when_it_began():
    """It is told in whole seconds, and late."""
    before = Count(10**9, 7, 0)
    assert Count(10**9 + SLACK - 1, 7, 5).lost_nothing_since(before)
    assert not Count(10**9 + SLACK, 7, 5).lost_nothing_since(before)
    assert not Count(10**9, 8, 5).lost_nothing_since(before)
