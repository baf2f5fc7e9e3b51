"""Two workers and two messages, with crashes at every step, leases that run out, and time that passes: what is promised
by `collectors.idempotency` holds, whatever the order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from collectors.idempotency import Busy, Claim, Done, First, Key, Late, Unknown

WORKERS, MESSAGES = st.integers(0, 1), st.sampled_from([0, 0, 0, 1])


class OnceMachine(RuleBasedStateMachine):
    """Effects outside of the store. `make` gives (place, policy, ids of two messages). `state` is what each message's
    record has to be: `free`, `held`, `lapsed` (or in doubt), `done`; `latest` the last token that was given for it."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.place, self.policy, self.ids = make()
        self.once = self.place.once(unknown=self.policy)
        self.has: list[tuple[Claim, bool] | None] = [None, None]  # the worker's claim, and whether its effect happened
        self.state = dict.fromkeys(self.ids, "free")
        self.latest = dict.fromkeys(self.ids, 0)
        self.effects, self.doubts = Counter[str](), Counter[str]()

    @rule(worker=WORKERS, message=MESSAGES)
    def begin(self, worker: int, message: int) -> None:
        """A copy of the message comes."""
        if self.has[worker] is None:
            claim = self._asked(self.ids[message])
            if claim is not None:
                self.has[worker] = (claim, False)
                if isinstance(claim, Unknown) and self.policy == "skip":
                    self._mark(worker)

    @rule(worker=WORKERS, what=st.sampled_from(["goes on", "goes on", "fails", "cannot know", "crashes"]))
    def step(self, worker: int, what: str) -> None:
        """A worker that has a claim goes on: first its effect, then the mark. Or it does not."""
        claim, happened = self.has[worker] or (None, False)
        if claim is None:
            return
        if what == "crashes":  # its claim stays until the lease runs out
            self.has[worker] = None
        elif what == "cannot know":
            self.once.release(claim, doubt=True)
            self._released(worker, claim, True)
        elif happened:
            self._mark(worker)
        elif what == "fails":
            self.once.release(claim)
            self._released(worker, claim, isinstance(claim, Unknown))
        else:
            self.effects[claim.key.message_id] += 1
            self.has[worker] = (claim, True)

    @rule(message=MESSAGES)
    def time_passes(self, message: int) -> None:
        """For longer than the lease, whether its worker lives or not."""
        held = [name for name, state in self.state.items() if state == "held"]
        if not self.place.all_lapse:
            held = [name for name in held if name == self.ids[message]]
        for name in held:
            self.state[name] = "lapsed"
        if held:
            self.place.lapse(Key("billing", "orders", held[0]))

    def _asked(self, name: str) -> Claim | None:
        said, state = self.once.begin(name), self.state[name]
        assert type(said) is {"free": First, "held": Busy, "lapsed": Unknown, "done": Done}[state]
        if not isinstance(said, Claim):
            return None
        assert said.token > self.latest[name]
        self.doubts[name] += isinstance(said, Unknown)
        self.state[name], self.latest[name] = "held", said.token
        return said

    def _mark(self, worker: int) -> None:
        """Of a claim that counts, or one that does not any more, which is told."""
        claim, _ = self.has[worker] or (None, False)
        assert claim is not None
        name, self.has[worker] = claim.key.message_id, None
        if self._counts(claim) or self.state[name] == "free":
            self.once.done(claim)
            self.state[name], self.latest[name] = "done", claim.token
        else:
            with pytest.raises(Late):
                self.once.done(claim)

    def _released(self, worker: int, claim: Claim, doubt: bool) -> None:
        self.has[worker] = None
        if self._counts(claim) and self.state[claim.key.message_id] != "done":
            self.state[claim.key.message_id] = "lapsed" if doubt else "free"

    def _counts(self, claim: Claim) -> bool:
        name = claim.key.message_id
        return self.state[name] != "free" and self.latest[name] == claim.token

    def teardown(self) -> None:
        """Everything comes once more, until it is done. Then the books are looked at."""
        for number, name in enumerate(self.ids):
            self.time_passes(number)
            claim = self._asked(name)
            if claim is not None:
                if isinstance(claim, First) or self.policy == "again":
                    self.effects[name] += 1
                self.once.done(claim)
            assert isinstance(self.once.begin(name), Done)
            if self.policy == "again":
                assert 1 <= self.effects[name] <= 1 + self.doubts[name], "twice only where somebody was told"
            else:
                assert self.effects[name] <= 1
                assert self.effects[name] or self.doubts[name], "never, though nobody was told"


class MarksMachine(RuleBasedStateMachine):
    """Effects in the transaction of the mark. `make` gives (place, marks, connect, effects, ids of two messages)."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.place, self.marks, self.connect, self.effects, self.ids = make()
        self.once = self.place.once()
        self.connections = [self.connect(), self.connect()]
        self.claims: list[Claim | None] = [None, None]
        self.open: list[str] = ["", ""]  # the message that is marked in the worker's transaction

    @rule(worker=WORKERS, message=MESSAGES)
    def in_one_transaction(self, worker: int, message: int) -> None:
        """Mark first, then the effect; the commit comes later."""
        if self.open[worker] or self.claims[worker]:
            return
        name = self.ids[message]
        said = self.marks.begin(self.connections[worker], name)
        if name == self.open[1 - worker]:
            assert isinstance(said, Busy)
        if isinstance(said, Claim):
            self._effect(worker, name)
        else:
            self.connections[worker].rollback()

    @rule(worker=WORKERS, message=MESSAGES)
    def claimed(self, worker: int, message: int) -> None:
        """A lease first, for long work."""
        if not self.open[worker] and not self.claims[worker]:
            said = self.once.begin(self.ids[message])
            self.claims[worker] = said if isinstance(said, Claim) else None

    @rule(worker=WORKERS)
    def effect_of_a_claim(self, worker: int) -> None:
        """Effect and mark, in one transaction."""
        claim = self.claims[worker]
        if claim is None:
            return
        self.claims[worker] = None
        try:
            self.marks.done(self.connections[worker], claim)
        except self.place.refusals:
            self.connections[worker].rollback()
        else:
            self._effect(worker, claim.key.message_id)

    @rule(worker=WORKERS)
    def commit(self, worker: int) -> None:
        """Mark and effect."""
        self.connections[worker].commit()
        self.open[worker] = ""

    @rule(worker=WORKERS)
    def fail(self, worker: int) -> None:
        """An exception: the transaction is rolled back, a claim is given up."""
        self.connections[worker].rollback()
        if (claim := self.claims[worker]) is not None:
            self.once.release(claim)
        self.open[worker], self.claims[worker] = "", None

    @rule(worker=WORKERS)
    def crash(self, worker: int) -> None:
        """The connection is cut, with whatever was open on it."""
        self.connections[worker].close()
        self.connections[worker] = self.connect()
        self.open[worker], self.claims[worker] = "", None

    @rule(message=MESSAGES)
    def time_passes(self, message: int) -> None:
        """For longer than a lease."""
        name = self.ids[message]
        if name not in self.open:
            self.place.lapse_if_there(name)

    def _effect(self, worker: int, name: str) -> None:
        self.connections[worker].execute("INSERT INTO effects VALUES (%s)", [name])
        self.open[worker] = name

    def teardown(self) -> None:
        """Everything comes once more, until it is done: once."""
        for connection in self.connections:
            connection.close()
        for name in self.ids:
            self.place.lapse_if_there(name)
            said: object = None
            while not isinstance(said, Done):  # a transaction that was cut ends a moment later
                with self.connect() as connection:
                    said = self.marks.begin(connection, name)
                    if isinstance(said, Claim):
                        connection.execute("INSERT INTO effects VALUES (%s)", [name])
            assert self.effects.count(name) == 1
