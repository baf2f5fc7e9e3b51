"""A flow spec as SQL: which expression says that a checkpoint was seen, is waiting, is late.

Hop names go as query parameters; everything else here is a number or a word of ours, so nothing a user wrote becomes
SQL. The verdicts given here are those of messages to which nothing special happened; every other message (a deadline
passed, a drop, a dead letter, differing digests, a finding) is left to `tracker.model.judge`, the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tracker.model.event import RETRY, Stage
from tracker.model.flags import SKEW
from tracker.model.spec import FlowSpec
from tracker.model.units import SECOND

NEVER = (1 << 63) - 1
"""A time that never came; the neutral element of `min`."""

DROPPED, DEAD, INTERVAL, BACKFILL, REPLAYED = 1, 2, 4, 8, 16
"""Bits of `marks`. The first four need the reference judge."""
SPECIAL = DROPPED | DEAD | INTERVAL | BACKFILL

MAX_AT_MOST = 15
"""Deliveries are counted in SQL up to this; a spec that asks for more is judged by the reference alone."""


@dataclass(frozen=True)
class Shape:
    """One spec with the bits that were given to its hops and checkpoints."""

    spec: FlowSpec
    checkpoint_bits: Mapping[tuple[str, str], int]
    hop_bits: Mapping[str, int]
    in_force_from: int = 0
    watermarks: Mapping[int, int] = field(default_factory=dict)
    """By checkpoint: how far those who see its single messages vouch; absent where nobody does."""

    @property
    def parameters(self) -> dict[str, str]:
        """Query parameters `h0`, `h1`, ... : the hops."""
        return {f"h{n}": hop for n, hop in enumerate(self.spec.hops)}

    def bits(self, i: int) -> list[int]:
        """The bits of checkpoint `i`: one per alternative hop."""
        point = self.spec.checkpoints[i]
        return [self.checkpoint_bits[hop, point.stage.value] for hop in point.hop]

    def _mask(self, i: int) -> int:
        return sum(1 << b for b in self.bits(i))

    @cached_property
    def by_reference_only(self) -> bool:
        """True when the spec asks for what the SQL does not judge: quorums, many allowed deliveries."""
        return any(c.quorum > 1 or (c.at_most or 0) > MAX_AT_MOST for c in self.spec.checkpoints)

    # --- folding events -------------------------------------------------------------------------------------------

    def _at(self, hop: str) -> str:
        return f"hop = {{h{self.spec.hops.index(hop)}:String}}"

    def _condition(self, hop: str, stage: str) -> str:
        return f"({self._at(hop)} AND stage = '{Stage(stage).value}')"

    @cached_property
    def _by_bit(self) -> dict[int, str]:
        """Bit -> condition on an event, for the checkpoints of this version of the spec."""
        return {
            self.checkpoint_bits[hop, c.stage.value]: self._condition(hop, c.stage)
            for c in self.spec.checkpoints
            for hop in c.hop
        }

    def _per_bit(self, value: str) -> str:
        size = max(self._by_bit, default=-1) + 1
        cells = [
            f"minIf({value}, {self._by_bit[b]}) + if(countIf({self._by_bit[b]}) = 0, {NEVER}, 0)"
            if b in self._by_bit
            else f"toInt64({NEVER})"
            for b in range(size)
        ]
        return f"[{', '.join(cells)}]"

    def fold_pieces(self) -> dict[str, str]:
        """Expressions for `queries/fold_new.sql`."""
        roots = " OR ".join(
            self._condition(hop, self.spec.checkpoints[i].stage)
            for i in self.spec.paths.roots
            for hop in self.spec.checkpoints[i].hop
        )
        return {
            "known_hops": " OR ".join(self._at(hop) for hop in self.spec.hops),
            "seen": _or(f"if({cond}, {1 << bit}, 0)" for bit, cond in self._by_bit.items()),
            "hops": _or(f"if({self._at(h)}, {1 << self.hop_bits[h]}, 0)" for h in self.spec.hops),
            "observed": self._per_bit("at"),
            "received": self._per_bit("got"),
            "roots": roots,
            "deliveries": self._deliveries(),
            "digests": self._digests(),
            "retry": f"'{RETRY}'",
            "dropped": str(DROPPED),
            "dead": str(DEAD),
            "interval": str(INTERVAL),
            "backfilled": str(BACKFILL),
            "replayed": str(REPLAYED),
            "never": str(NEVER),
        }

    def _deliveries(self) -> str:
        limited = {b: self._by_bit[b] for i, c in enumerate(self.spec.checkpoints) if c.at_most for b in self.bits(i)}
        if not limited:
            return "CAST([], 'Array(UInt64)')"
        which = "multiIf(" + ", ".join(f"{cond}, toUInt64({b})" for b, cond in limited.items()) + ", toUInt64(63))"
        chosen = " OR ".join(limited.values())
        tagged = f"bitOr(bitShiftLeft({which}, 58), bitShiftRight(delivery_hash, 6))"
        return f"groupUniqArrayIf(64)({tagged}, ({chosen}) AND replay_id = '')"

    def _digests(self) -> str:
        joined = {j for i, c in enumerate(self.spec.checkpoints) if c.same_payload
                  for j in (i, *self.spec.paths.before[i])}  # fmt: skip
        if not joined:
            return "CAST([], 'Array(UInt64)')"
        chosen = " OR ".join(self._by_bit[b] for j in joined for b in self.bits(j))
        return f"groupUniqArrayIf(4)(digest, digest != 0 AND ({chosen}))"

    # --- judging states -------------------------------------------------------------------------------------------

    def judge_pieces(self) -> dict[str, str]:
        """Expressions for `queries/judge_plain.sql`; each alias is `letter + checkpoint index`."""
        paths = self.spec.paths
        required = [i for i in paths.order if paths.required[i]]
        waits = [f"if(w{i} AND d{i} < {NEVER}, d{i}, {NEVER})" for i in required]
        gaps = [i for i in required if i in self.watermarks]
        rechecks = [f"if(m{i} AND NOT g{i}, recheck, {NEVER})" for i in gaps]
        return {
            "aliases": ",\n        ".join(alias for i in paths.order for alias in self._aliases(i)),
            "due": _any(f"x{i}" for i in required),
            "gap": _any(f"g{i}" for i in gaps),
            "waiting": _any(f"w{i}" for i in required),
            "late": _any(f"l{i}" for i in required),
            "orphan": f"NOT ({_any(f's{i}' for i in paths.roots)})",
            "duplicated": _any(self._surplus(i) for i, c in enumerate(self.spec.checkpoints) if c.at_most),
            "skewed": _any(
                f"(s{i} AND s{p} AND bitAnd(ranged, {self._mask(i) | self._mask(p)}) = 0 AND o{i} + {SKEW} < o{p})"
                for i in paths.order
                for p in paths.before[i]
            ),
            "longest": str(max(paths.longest, SECOND)),
            "look_again": _least([*waits, *rechecks]),
            "special": str(SPECIAL),
            "replayed": str(REPLAYED),
            "never": str(NEVER),
            "reference": str(int(self.by_reference_only)),
            "in_force": str(self.in_force_from),
        }

    def _surplus(self, i: int) -> str:
        mine = ", ".join(str(b) for b in self.bits(i))
        allowed = self.spec.checkpoints[i].at_most
        return f"(arrayCount(x -> bitShiftRight(x, 58) IN ({mine}), deliveries) > {allowed})"

    def _aliases(self, i: int) -> list[str]:
        """Seen, observed, received, implied, deadline, observed deadline, waiting, due, late, gap of checkpoint `i`."""
        paths = self.spec.paths
        bits = self.bits(i)
        behind = sum(self._mask(d) for d in paths.descendants[i])
        hops = sum(1 << self.hop_bits[h] for h in paths.hops_behind[i])
        aliases = [
            f"bitAnd(seen, {self._mask(i)}) != 0 AS s{i}",
            f"{_earliest('observed', bits)} AS o{i}",
            f"{_earliest('received', bits)} AS r{i}",
            f"NOT s{i} AND (bitAnd(seen, {behind}) != 0 OR bitAnd(hops, {hops}) != 0) AS m{i}",
            f"{self._deadline(i)} AS d{i}",
            f"{self._observed_deadline(i)} AS e{i}",
            f"NOT s{i} AND NOT m{i} AND {{now:Int64}} < d{i} AS w{i}",
            f"NOT s{i} AND NOT m{i} AND NOT w{i} AS x{i}",
            f"s{i} AND e{i} > 0 AND o{i} > e{i} AS l{i}",
        ]
        if i in self.watermarks:
            after = _earliest("received", [b for d in paths.descendants[i] for b in self.bits(d)])
            aliases.append(f"m{i} AND least({after}, {NEVER}) <= {int(self.watermarks[i])} AS g{i}")
        return aliases

    def _deadline(self, i: int) -> str:
        within, before = self.spec.paths.within[i], self.spec.paths.before[i]
        if within is None:
            return f"toInt64({NEVER})"
        if not before:
            return f"first_received + {within}"
        return f"{_greatest(self._received_by(p) for p in before)} + {within}"

    def _received_by(self, p: int) -> str:
        beginning = not self.spec.paths.before[p] and self.spec.paths.within[p] is None
        return f"if(s{p}, r{p}, {'first_received' if beginning else f'd{p}'})"

    def _observed_deadline(self, i: int) -> str:
        within, before = self.spec.paths.within[i], self.spec.paths.before[i]
        if within is None or not before:
            return "toInt64(0)"
        latest = _greatest(f"if(s{p}, o{p}, e{p})" for p in before)
        return f"if({latest} > 0, {latest} + {within}, 0)"


def _or(terms: Iterable[str]) -> str:
    """Distinct bits added up: each term is 0 or its own power of two."""
    return " + ".join(f"toUInt64({term})" for term in terms) or "toUInt64(0)"


def _any(terms: Iterable[str]) -> str:
    return " OR ".join(terms) or "false"


def _least(terms: list[str]) -> str:
    return f"least({', '.join(terms)}, {NEVER})" if terms else f"toInt64({NEVER})"


def _greatest(terms: Iterable[str]) -> str:
    known = list(terms)
    return known[0] if len(known) == 1 else f"greatest({', '.join(known)})"


def _earliest(array: str, bits: list[int]) -> str:
    """The earliest time among these bits; an array that is too short for a bit, or never filled, counts as never."""
    cells = [f"if(bitTest(seen, {b}), {array}[{b + 1}], {NEVER})" for b in bits]
    return _least(cells) if len(cells) != 1 else cells[0]
