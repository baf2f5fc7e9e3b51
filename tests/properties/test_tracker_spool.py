"""The tracker's spool against a list: whatever happens to it, what was taken and not done comes back, in order."""

from __future__ import annotations

import shutil
import tempfile
from itertools import count
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tracker.ingest import segment
from tracker.ingest.batch import Accepted, Batch
from tracker.ingest.errors import Busy
from tracker.ingest.spool import ASIDE, Spool
from tracker.store.columns import QUARANTINE

EACH = 6000
LIMIT = 5 * EACH


def batch(number: int, size: int) -> Batch:
    """A batch that can be told from others, of about `size` bytes that do not compress."""
    noise = bytes((number * 7919 + n * 104729) % 251 for n in range(size)).hex()
    row = {"tenant": "", "source": "s", "line": number, "field": "", "reason": "", "raw": noise, "flow": "",
           "received_at": number}  # fmt: skip
    return Batch(Accepted(0, 1), quarantine=pa.Table.from_pylist([row], schema=QUARANTINE))


def number(of: Batch) -> int:
    """Which one it is."""
    return int(of.quarantine["line"][0].as_py())


class SpoolMachine(RuleBasedStateMachine):
    """Appends, removals, restarts and kills, with segments so small that all of it happens often."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.ticks, self.numbers = count(1_800_000_000_000_000), count()
        self.waiting: list[int] = []
        self.done: set[int] = set()
        self.open()

    def open(self) -> None:
        """As a new process does."""
        self.spool = Spool.open(self.folder, LIMIT, False, "ledger", lambda: next(self.ticks), EACH)

    @rule(sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=4))
    def append(self, sizes):
        """A group, taken as a whole or refused as a whole."""
        group = [batch(next(self.numbers), size) for size in sizes]
        try:
            self.spool.append(group)
        except Busy:
            assert self.spool.size > LIMIT / 3
            return
        self.waiting += [number(one) for one in group]

    @precondition(lambda self: self.waiting)
    @rule(rows=st.integers(1, 6), share=st.floats(0, 1))
    def store(self, rows, share):
        """The store took a part of what was handed out."""
        held = self.spool.peek(rows)
        assert [number(one.batch) for one in held] == self.waiting[: len(held)]
        taken = held[: round(share * len(held))]
        if taken:
            self.spool.done(taken[-1])
            self.done.update(self.waiting[: len(taken)])
            del self.waiting[: len(taken)]

    @rule(torn=st.binary(max_size=60))
    def killed(self, torn):
        """Another process goes on; what was being written is cut off. Some of what was done may come again."""
        self.spool.close()
        last = max(self.folder.glob("*.spool"), default=None)
        if last and torn:
            with last.open("ab") as file:
                file.write(b"\xf5Bat" + torn[:20])
        self.open()
        again = []
        for path in sorted(self.folder.glob("*.spool")):
            again += list(_numbers(path))
        assert again[len(again) - len(self.waiting) :] == self.waiting
        assert set(again[: len(again) - len(self.waiting)]) <= self.done
        self.waiting = again

    @invariant()
    def holds_what_waits(self):
        """It never looks empty while something waits, and keeps to its bound."""
        assert self.spool.holds or not self.waiting
        assert self.spool.size <= LIMIT + 100  # a torn tail counts until it is passed

    def teardown(self) -> None:
        """Everything that was not done comes out; then nothing is left but the lock and the ledger's name."""
        found = []
        while held := self.spool.peek(3):
            found += [number(one.batch) for one in held]
            self.spool.done(held[-1])
        assert found == self.waiting
        assert {path.name for path in self.folder.iterdir()} <= {"lock", "ledger", ASIDE}
        self.spool.close()
        shutil.rmtree(self.folder)


def _numbers(path: Path):
    for one in segment.records(path, 0, path.stat().st_size):
        if one.batch is not None:
            yield number(one.batch)


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=300)), max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_bytes_in_a_segment_are_survived(parts):
    """Whatever lies in a file, good records between garbage come out, in order, and nothing hangs or fails."""
    folder = Path(tempfile.mkdtemp())
    try:
        body, wanted = b"", []
        for n, (size, garbage) in enumerate(parts):
            body += garbage + segment.record(batch(n, size), n)
            wanted.append(n)
        (folder / f"{1:016d}.spool").write_bytes(body)
        spool = Spool.open(folder, LIMIT, False, "ledger", lambda: 9)
        found = []
        while held := spool.peek(2):
            found += [number(one.batch) for one in held]
            spool.done(held[-1])
        assert found == wanted
        spool.close()
    finally:
        shutil.rmtree(folder)
