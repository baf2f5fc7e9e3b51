"""A flow spec as SQL: which bit an event sets, and which of its values are kept.

Hop names go as query parameters; everything else here is a number or a word of ours, so nothing a user wrote becomes
SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tracker.model.event import RETRY, Stage
from tracker.model.spec import FlowSpec

NEVER = (1 << 63) - 1
"""A time that never came; the neutral element of `min`."""

DROPPED, DEAD, INTERVAL, BACKFILL, REPLAYED = 1, 2, 4, 8, 16
"""Bits of `marks`. The first four need the reference judge."""
SPECIAL = DROPPED | DEAD | INTERVAL | BACKFILL

NO_BIT = 255
"""The bit of an event that is no checkpoint."""

NOTHING = "CAST([], 'Array(UInt64)')"
"""No values."""

MAX_DELIVERIES = 64
"""How many distinct deliveries, and nodes, of a message are kept, over all checkpoints that count them."""


@dataclass(frozen=True)
class Shape:
    """The newest spec of a flow with the bits that were given to the hops and checkpoints of all its versions: events
    are folded for whichever version judges their message."""

    spec: FlowSpec
    checkpoint_bits: Mapping[tuple[str, str], int]
    hop_bits: Mapping[str, int]

    @property
    def parameters(self) -> dict[str, str]:
        """Query parameters `h0`, `h1`, ... : the hops."""
        return {f"h{bit}": hop for hop, bit in self.hop_bits.items()}

    def bits(self, i: int) -> list[int]:
        """The bits of checkpoint `i`: one per alternative hop."""
        point = self.spec.checkpoints[i]
        return [self.checkpoint_bits[hop, point.stage.value] for hop in point.hop]

    @property
    def size(self) -> int:
        """How many bits the time arrays must hold."""
        return max(self.checkpoint_bits.values(), default=-1) + 1

    def _at(self, hop: str) -> str:
        return f"hop = {{h{self.hop_bits[hop]}:String}}"

    @cached_property
    def _by_bit(self) -> dict[int, str]:
        """Bit -> condition on an event."""
        return {
            bit: f"{self._at(hop)} AND stage = '{Stage(stage).value}'"
            for (hop, stage), bit in self.checkpoint_bits.items()
        }

    def _per_bit(self, value: str) -> str:
        return f"[{', '.join(f'if(bitTest(seen, {b}), minIf({value}, bit = {b}), {NEVER})' for b in range(self.size))}]"

    def fold_pieces(self) -> dict[str, str]:
        """Expressions for `queries/fold_new.sql`."""
        joined = {j for i, c in enumerate(self.spec.checkpoints) if c.same_payload
                  for j in (i, *self.spec.paths.before[i])}  # fmt: skip
        limited = {b: c.at_most for i, c in enumerate(self.spec.checkpoints) if c.at_most for b in self.bits(i)}
        once = [b for b, most in limited.items() if most == 1]
        several = [b for b, most in limited.items() if most > 1]
        counted = [b for i, c in enumerate(self.spec.checkpoints) if c.quorum > 1 for b in self.bits(i)]
        outboxes = " OR ".join(self._at(hop) for c in self.spec.checkpoints if c.outbox for hop in c.hop)
        return {
            "known_hops": " OR ".join(self._at(hop) for hop in self.hop_bits),
            "bit": f"multiIf({', '.join(f'{cond}, {bit}' for bit, cond in self._by_bit.items())}, {NO_BIT})",
            "place": f"multiIf({', '.join(f'{self._at(h)}, {self.hop_bits[h]}' for h in self.hop_bits)}, {NO_BIT})",
            "observed": self._per_bit("at"),
            "received": self._per_bit("got"),
            "keeps": f"stage IN ('persist', 'replicate') OR (stage = 'produce' AND ({outboxes or 'false'}))",
            "deliveries": _deliveries(once, several),
            "limited": f"bit IN ({', '.join(map(str, limited))})" if limited else "false",
            "nodes": _distinct_if(_tagged("sipHash64(node)"), counted, "true", MAX_DELIVERIES),
            "digests": _extremes("digest", [b for j in joined for b in self.bits(j)], "digest != 0"),
            "retry": f"'{RETRY}'",
            "dropped": str(DROPPED),
            "dead": str(DEAD),
            "interval": str(INTERVAL),
            "backfilled": str(BACKFILL),
            "replayed": str(REPLAYED),
            "never": str(NEVER),
        }


def _tagged(value: str) -> str:
    """A hash whose top six bits are replaced by the checkpoint's."""
    return f"bitOr(bitShiftLeft(toUInt64(bit), 58), bitShiftRight({value}, 6))"


def _deliveries(once: Sequence[int], several: Sequence[int]) -> str:
    """Of a checkpoint that one delivery may reach, two are enough to know; the others' are all kept."""
    tagged, original = _tagged("delivery_hash"), "replay_id = ''"
    kept = [_extremes(tagged, [bit], original) for bit in once]
    if several:
        kept.append(_distinct_if(tagged, several, original, MAX_DELIVERIES))
    return f"arrayConcat({', '.join(kept)})" if len(kept) > 1 else (kept or [NOTHING])[0]


def _extremes(value: str, bits: Iterable[int], also: str) -> str:
    """The smallest and the largest value among events that are one of these checkpoints: two when there are several
    distinct ones. Much quicker than a set of them per message."""
    chosen = ", ".join(map(str, sorted(bits)))
    if not chosen:
        return NOTHING
    of = f"({value}, bit IN ({chosen}) AND {also})"
    return f"arrayFilter(v -> v != 0, arrayDistinct([minIf{of}, maxIf{of}]))"


def _distinct_if(value: str, bits: Iterable[int], also: str, limit: int) -> str:
    """The distinct values, at most `limit`, among events that are one of these checkpoints."""
    chosen = ", ".join(str(b) for b in sorted(bits))
    if not chosen:
        return NOTHING
    return f"groupUniqArrayIf({limit})({value}, bit IN ({chosen}) AND {also})"
