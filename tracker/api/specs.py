"""Flow specs as the faces need them: parsed once, read again when one changed; and how a new one is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property

from tracker.control import Books, Control
from tracker.control.errors import NotFound
from tracker.control.flows import FlowVersion, in_force
from tracker.ingest.asked import KnownFlow
from tracker.model.errors import SpecError
from tracker.model.spec import FlowSpec, load_spec


@dataclass(frozen=True)
class Known:
    """One flow: all versions, oldest first."""

    versions: tuple[FlowVersion, ...]

    @property
    def newest(self) -> FlowVersion:
        """The version that judges messages created from now on."""
        return self.versions[-1]

    @cached_property
    def spec(self) -> FlowSpec:
        """The newest spec."""
        return self._specs[self.newest.version]

    @cached_property
    def at_ingest(self) -> KnownFlow:
        """What the way in knows of it: the newest spec's rules hold for all that comes now, whatever its origin. Its
        hops are those of all versions, for old messages are judged by theirs."""
        hops = frozenset(hop for spec in self._specs.values() for hop in spec.hops)
        return replace(KnownFlow.of(self.spec), hops=hops)

    @cached_property
    def ordered(self) -> bool:
        """True when some version asks for order, so that messages may be flagged as reordered."""
        return any(point.order for spec in self._specs.values() for point in spec.checkpoints)

    @cached_property
    def _specs(self) -> dict[int, FlowSpec]:
        return {version.version: load_spec(version.text) for version in self.versions}

    def spec_at(self, origin: int) -> FlowSpec:
        """The spec in force for messages of this origin time, µs."""
        version = in_force(self.versions, origin) or self.versions[0]
        return self._specs[version.version]

    def spec_for(self, origin: int, hops: AbstractSet[str]) -> FlowSpec | None:
        """The spec that judges a message of this origin time seen at `hops`: the one in force then, or the newest that
        knows one of them; None when none does."""
        specs = (self.spec_at(origin), *(self._specs[version.version] for version in reversed(self.versions)))
        return next((spec for spec in specs if not hops.isdisjoint(spec.hops)), None)


class Specs:
    """All flows that are not deleted. Thread-safe; asks the control database one cheap question per use."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._revision = -1
        self._known: dict[str, Known] = {}

    def known(self) -> Mapping[str, Known]:
        """Every flow, by name."""
        revision = self._control.flows.revision()
        with self._lock:
            if revision != self._revision:
                self._known = self._read()
                self._revision = revision
            return self._known

    def of(self, flow: str) -> Known:
        """Raises NotFound for a flow that never was, or was deleted."""
        found = self.known().get(flow)
        if found is None:
            raise NotFound(f"no flow {flow!r}; list them with: tracker flows list")
        return found

    def at_ingest(self) -> Mapping[str, KnownFlow]:
        """What the way in knows of every flow, by its newest spec."""
        return {name: known.at_ingest for name, known in self.known().items()}

    def _read(self) -> dict[str, Known]:
        by_flow: dict[str, list[FlowVersion]] = {}
        for version in self._control.flows.versions():
            if version.deleted_at is None:
                by_flow.setdefault(version.flow, []).append(version)
        return {flow: Known(tuple(versions)) for flow, versions in sorted(by_flow.items())}


def apart(spec: FlowSpec, known: Mapping[str, Known]) -> None:
    """SpecError where a flow of canaries and one of business would share a hop that keeps messages: a replay goes to a
    hop, and its collector tells flows by it (ADR 40)."""
    for name, other in known.items():
        shared = spec.keeping & other.spec.keeping
        if name != spec.flow and other.spec.canary != spec.canary and shared:
            raise SpecError(
                f"hop {sorted(shared)[0]!r} is flow {name!r}'s, and one of the two has `canary: true`: canaries need a "
                "topic or queue, and so a hop, of their own (tracker canary draft FLOW)"
            )


def canonical(spec: FlowSpec) -> str:
    """The one JSON text of what a spec says, whatever its YAML looks like; durations in µs."""
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def keep(books: Books, spec: FlowSpec, text: str, now: int, by: str) -> int:
    """The version under which the spec is in force from `now`; the same spec again keeps its version.

    Raises Exhausted when the flow has used up its 64 hops or checkpoints.
    """
    points = [(hop, point.stage.value) for point in spec.checkpoints for hop in point.hop]
    return books.flows.put(spec.flow, text, canonical(spec), now, by, spec.hops, points)
