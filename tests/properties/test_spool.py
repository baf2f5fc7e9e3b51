"""The spool against a list: whatever happens to it, what was appended and not released comes back, in order."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collectors.segment import Kind
from collectors.spool import REFUSED, Spool


class SpoolMachine(RuleBasedStateMachine):
    """Appends, releases, restarts and torn tails, with segments so small that all of it happens often."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.kept: list[tuple[int, bytes]] = []
        self.refused = 0
        self.acknowledged = 0
        self.open()

    def open(self) -> None:
        """As a new process does."""
        self.spool = Spool(self.folder, segment=4096, limit=5 * 4096)
        self.spool.resume(self.acknowledged, self.acknowledged)

    @rule(payload=st.binary(min_size=1, max_size=1500))
    def append(self, payload):
        """A line, taken or refused."""
        room = self.spool.used + 4096 <= self.spool.limit
        end = self.spool.append(Kind.lines, payload, 1)
        if end == REFUSED:
            assert not room, "refused though there is room"
            self.refused += 1
        else:
            self.kept.append((end, payload))

    @precondition(lambda self: self.kept)
    @rule(share=st.floats(0, 1))
    def release(self, share):
        """The tracker said yes to a part."""
        count = round(share * len(self.kept))
        if count:
            self.acknowledged = self.kept[count - 1][0]
            self.spool.release(self.acknowledged, count)
            self.kept = self.kept[count:]

    @rule()
    def prepare(self):
        """The sender looks after the files."""
        self.spool.prepare()

    @rule()
    def restart(self):
        """Closed and opened again."""
        self.spool.close()
        self.open()

    @rule()
    def killed(self):
        """The process is gone without a close."""
        self.spool.unlock()
        self.open()

    @rule(cut=st.integers(1, 20))
    def torn(self, cut):
        """The process was killed while it wrote a record: that one is gone, its append had not returned."""
        end = self.spool.append(Kind.lines, b"torn" * 10, 1)
        self.spool.close()
        if end == REFUSED:
            self.refused += 1
        else:
            path = max(self.folder.glob("*.seg"))
            os.truncate(path, path.stat().st_size - cut)
        self.open()

    @invariant()
    def nothing_is_lost(self):
        """The lines behind the acknowledged position are those of the model; the bound holds; refusals are counted."""
        lines = [r.payload for r in self.spool.read(self.acknowledged) if r.kind is Kind.lines]
        assert lines == [payload for _, payload in self.kept]
        assert self.spool.backlog == len(self.kept)
        assert self.spool.used == sum(path.stat().st_size for path in self.folder.glob("*.seg")) <= self.spool.limit
        assert self.spool.refused == self.refused

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.spool.close()
        shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=6000), st.lists(st.tuples(st.integers(0, 5999), st.integers(0, 255)), max_size=4))
def test_any_bytes_in_a_segment(content, changes):
    """Whatever a disk made of a segment: opening it raises nothing, and every line given out is one that was put in."""
    folder = Path(tempfile.mkdtemp())
    try:
        spool = Spool(folder, segment=4096)
        put = [b"line %d\n" % i * 9 for i in range(20)]
        for line in put:
            spool.append(Kind.lines, line, 1)
        spool.close()
        first = min(folder.glob("*.seg"))
        damaged = bytearray(first.read_bytes())
        for at, value in changes:
            if at < len(damaged):
                damaged[at] = value
        first.write_bytes(damaged)
        (folder / f"{10**9:020d}.seg").write_bytes(content)
        again = Spool(folder, segment=4096)
        assert {r.payload for r in again.read(0) if r.kind is Kind.lines} <= set(put)
        again.close()
    finally:
        shutil.rmtree(folder)
