"""A flow spec as SQL: which bit an event sets, and which of its values are kept.

Hop names go as query parameters; everything else here is a number or a word of ours, so nothing a user wrote becomes
SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
class KeptOf:
    """Checkpoints, by bit, of which more than the earliest time is kept: the deliveries that reached them, `once` where
    one may and `several` where more, but not all, may; the nodes, `counted` for a quorum; the digests, `joined` where
    payloads have to agree."""

    once: frozenset[int] = frozenset()
    several: frozenset[int] = frozenset()
    counted: frozenset[int] = frozenset()
    joined: frozenset[int] = frozenset()

    def __or__(self, other: KeptOf) -> KeptOf:
        """Those of both."""
        return KeptOf(
            self.once | other.once, self.several | other.several,
            self.counted | other.counted, self.joined | other.joined,
        )  # fmt: skip


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

    @cached_property
    def kept_of(self) -> KeptOf:
        """Which of its checkpoints' values are kept."""
        paths, points = self.spec.paths, list(enumerate(self.spec.checkpoints))
        joined = {j for i, c in points if c.same_payload for j in (i, *paths.before[i])}
        return KeptOf(
            once=self._bits_of(i for i, c in points if c.at_most == 1),
            several=self._bits_of(i for i, c in points if (c.at_most or 0) > 1),
            counted=self._bits_of(i for i, c in points if c.quorum > 1),
            joined=self._bits_of(joined),
        )

    @property
    def outboxes(self) -> list[str]:
        """Hops that hold what they produce."""
        return sorted({hop for c in self.spec.checkpoints if c.outbox for hop in c.hop})

    def _bits_of(self, checkpoints: Iterable[int]) -> frozenset[int]:
        return frozenset(bit for i in checkpoints for bit in self.bits(i))

    def fold_pieces(self) -> dict[str, str]:
        """Expressions for `queries/fold_new.sql`."""
        limited = self.kept_of.once | self.kept_of.several
        return {
            "traits": "",
            "known_hops": " OR ".join(self._at(hop) for hop in self.hop_bits),
            "bit": f"multiIf({', '.join(f'{cond}, {bit}' for bit, cond in self._by_bit.items())}, {NO_BIT})",
            "place": f"multiIf({', '.join(f'{self._at(h)}, {self.hop_bits[h]}' for h in self.hop_bits)}, {NO_BIT})",
            "keeps": keeps(" OR ".join(map(self._at, self.outboxes))),
            "limited": among(limited) if limited else "false",
            **folded(self.size, self.kept_of),
        }


def folded(size: int, kept_of: KeptOf, **also: str) -> dict[str, str]:
    """What `queries/fold_new.sql` keeps of messages with `size` bits. `also`: by name of a set of `kept_of`, on what
    other condition an event belongs to it."""
    on = {name: [also[name]] if name in also else [] for name in ("once", "several", "counted", "joined")}
    original, tagged = "replay_id = ''", _tagged("delivery_hash")
    deliveries = [_extremes(tagged, [bit], [*on["once"], original]) for bit in sorted(kept_of.once)]
    if kept_of.several:
        deliveries.append(_distinct(tagged, kept_of.several, [*on["several"], original]))
    return {
        "observed": _per_bit("at", size),
        "received": _per_bit("got", size),
        "deliveries": f"arrayConcat({', '.join(deliveries)})" if deliveries else NOTHING,
        "nodes": _distinct(_tagged("sipHash64(node)"), kept_of.counted, on["counted"]),
        "digests": _extremes("digest", kept_of.joined, [*on["joined"], "digest != 0"]),
        "retry": f"'{RETRY}'",
        "dropped": str(DROPPED),
        "dead": str(DEAD),
        "interval": str(INTERVAL),
        "backfilled": str(BACKFILL),
        "replayed": str(REPLAYED),
        "never": str(NEVER),
    }


def keeps(outbox: str) -> str:
    """SQL: an event says that its hop holds the message now. `outbox`: it happened at an outbox."""
    return f"stage IN ('persist', 'replicate') OR (stage = 'produce' AND ({outbox or 'false'}))"


def among(checkpoint_bits: Iterable[int]) -> str:
    """SQL: an event is one of these checkpoints."""
    return f"bit IN ({', '.join(map(str, sorted(checkpoint_bits)))})"


def _per_bit(value: str, size: int) -> str:
    return f"[{', '.join(f'if(bitTest(seen, {b}), minIf({value}, bit = {b}), {NEVER})' for b in range(size))}]"


def _tagged(value: str) -> str:
    """A hash whose top six bits are replaced by the checkpoint's."""
    return f"bitOr(bitShiftLeft(toUInt64(bit), 58), bitShiftRight({value}, 6))"


def _extremes(value: str, checkpoint_bits: Iterable[int], on: Iterable[str]) -> str:
    """The smallest and the largest value among events that are one of these checkpoints: two when there are several
    distinct ones, which is enough to know where one is allowed. Much quicker than a set of them per message."""
    bits = list(checkpoint_bits)
    if not bits:
        return NOTHING
    of = f"({value}, {' AND '.join([among(bits), *on])})"
    return f"arrayFilter(v -> v != 0, arrayDistinct([minIf{of}, maxIf{of}]))"


def _distinct(value: str, checkpoint_bits: Iterable[int], on: Iterable[str]) -> str:
    """The distinct values, not all if there are very many, among events that are one of these checkpoints."""
    bits = list(checkpoint_bits)
    if not bits:
        return NOTHING
    return f"groupUniqArrayIf({MAX_DELIVERIES})({value}, {' AND '.join([among(bits), *on])})"
