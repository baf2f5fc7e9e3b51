"""Which partitions a tail reads, from where, and since when it vouches for them."""

from __future__ import annotations

from collections.abc import Set

from confluent_kafka import OFFSET_BEGINNING

from collectors.clock import Clock
from collectors.kafka.arrivals import Arrivals
from collectors.kafka.done import Done
from collectors.kafka.frontier import Frontier, Slot
from collectors.kafka.positions import Position, Positions
from collectors.kafka.reader import Reader
from collectors.kafka.recall import Recall
from collectors.kafka.truncated import Cut, cut_of
from collectors.kafka.watch import View

HOLE_TICKS = 10_000_000
"""How long a partition that lost records unread is not vouched for: longer than the time between two reports."""

BEGINNING = Position(OFFSET_BEGINNING)


class Following:
    """Follows what looks at the cluster show: partitions come, go, lose their beginning or their end. `topics`: name
    and id of each by its name; None before the first look. `cluster_id` is known with the first partition. Raises the
    driver's errors, and ours."""

    def __init__(
        self,
        reader: Reader,
        frontier: Frontier,
        positions: Positions,
        recall: Recall,
        done: Done,
        arrivals: Arrivals | None,
        *,
        from_end: bool,
        ticks: Clock,
    ) -> None:
        self.topics: dict[str, tuple[str, str]] | None = None
        self.cluster_id = ""
        self._reader, self._frontier, self._positions = reader, frontier, positions
        self._recall, self._done, self._arrivals = recall, done, arrivals
        self._from_end, self._ticks = from_end, ticks
        self._looked = False
        self._vouched_from: dict[Slot, int] = {}
        self._vouched: tuple[frozenset[Slot], frozenset[Slot]] | None = None  # (left out, vouched for) the last time

    def follow(self, view: View) -> None:
        """Read what there is now."""
        before, self.topics = self.topics or {}, {name: (name, known) for name, known in view.topics.items()}
        remade = {name for name, known in self.topics.items() if before.get(name, known) != known}
        followed = self._frontier.reach.keys()
        self._leave({slot for slot in followed if slot not in view.partitions or slot[0] in remade})
        self._begin(view.ends.keys() - followed, view)  # those without a leader begin when they have one
        if view.whole:
            self._looked = True
        if view.whole and view.partitions:  # of nothing, nothing is vouched for
            self._frontier.found(view.at, view.ends)

    def start_again(self) -> None:
        """Go on in partitions whose position is gone. Not before all that was read of them has been decoded."""
        for slot, said in list(self._reader.stopped.items()):
            cut = cut_of(said)
            start = self._cut_off(slot, cut) if cut else self._lost(slot)
            self._done.forget([slot])
            self._reader.again(slot, start)

    def vouched(self) -> frozenset[Slot]:
        """Those that are read and vouched for. Left out, so that coverage has a hole: one that lost records before we
        read them, for a while; one that is read from its end, until reading is known to be past where it began. The
        same set while nothing changes."""
        done = self._frontier.complete_to or 0
        self._vouched_from = {slot: tick for slot, tick in self._vouched_from.items() if done < tick}
        left_out = self._vouched_from.keys()
        if self._vouched is None or self._vouched[0] != left_out:
            self._vouched = frozenset(left_out), frozenset(self._frontier.reach.keys() - left_out)
        return self._vouched[1]

    def _begin(self, slots: Set[Slot], view: View) -> None:
        """Read these from where we were; else, at the first start, from where `from` says; else from their beginning:
        a partition that was added since holds nothing old."""
        if not slots:
            return
        self.cluster_id = self._reader.cluster_id({topic for topic, _ in slots})
        known = self._positions.load(slots, view.topics)
        if self._from_end and not self._looked:  # what comes into being later is new from its beginning
            new = {s: end for s, end in view.ends.items() if s in slots and s[0] not in known}
            # Or the next start, before the first record, would take its own end.
            self._positions.keep({slot: Position(end) for slot, end in new.items()})
            self._vouched_from |= dict.fromkeys(new, self._ticks())
        starts = {slot: self._positions.kept.get(slot, BEGINNING) for slot in slots}
        self._reader.begin(starts)
        self._vouched = None
        for slot, at in starts.items():
            self._recall.begin(slot, max(at.offset, 0))

    def _leave(self, slots: set[Slot]) -> None:
        if slots:
            self._reader.leave(slots)
            self._vouched = None
            self._positions.forget(slots)
            self._recall.forget(slots)
            self._done.forget(slots)
            if self._arrivals:
                self._arrivals.forget(slots)

    def _lost(self, slot: Slot) -> Position:
        """Retention took the position away: what was unread there is lost to us as well."""
        self._vouched_from[slot] = self._ticks() + HOLE_TICKS
        self._positions.kept.pop(slot, None)
        self._recall.begin(slot, 0)
        return BEGINNING

    def _cut_off(self, slot: Slot, cut: Cut) -> Position:
        """Take back what was read behind the end of a log that was cut off."""
        self._recall.cut(slot, cut, self._frontier.reach[slot])
        if self._arrivals:
            self._arrivals.cut(slot, cut.offset)
        start = Position(cut.offset, cut.epoch)
        self._positions.back(slot, start)
        return start
