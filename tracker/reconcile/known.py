"""Flows as the reconciler knows them: every version of a spec, and the bits of its hops and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tracker.control import Control
from tracker.control.flows import FlowVersion, in_force
from tracker.model.spec import FlowSpec, load_spec
from tracker.store.shape import Shape


class Known(msgspec.Struct, frozen=True):
    """One flow as the reconciler knows it: every version of its spec, and its bits."""

    versions: list[FlowVersion]
    specs: dict[int, FlowSpec]
    checkpoint_bits: dict[tuple[str, str], int]
    hop_bits: dict[str, int]

    @property
    def newest(self) -> FlowVersion:
        """The version that new messages are judged by."""
        return self.versions[-1]

    @property
    def longest(self) -> int:
        """The longest deadline of any version, µs."""
        return max(spec.paths.longest for spec in self.specs.values())

    @property
    def others(self) -> list[FlowSpec]:
        """All versions, the newest first."""
        return [self.specs[version.version] for version in reversed(self.versions)]

    def spec_at(self, origin: int) -> FlowSpec:
        """The spec in force at this origin time; the first version reaches back without limit."""
        version = in_force(self.versions, origin) or self.versions[0]
        return self.specs[version.version]

    @property
    def spec(self) -> FlowSpec:
        """The newest."""
        return self.specs[self.newest.version]

    @property
    def shape(self) -> Shape:
        """The newest spec with the bits of all versions."""
        return Shape(self.spec, self.checkpoint_bits, self.hop_bits)

    @property
    def in_force_from(self) -> int:
        """From when on the newest version judges, µs; the only version reaches back without limit."""
        return self.newest.in_force_from if len(self.versions) > 1 else 0


def known_flows(control: Control, before: Mapping[str, Known]) -> dict[str, Known]:
    """All flows that are not deleted, by name. A version's spec never changes: one that was known `before` is not
    parsed again."""
    by_flow: dict[str, list[FlowVersion]] = {}
    for version in control.flows.versions():
        if version.deleted_at is None:
            by_flow.setdefault(version.flow, []).append(version)
    known = {}
    for flow, versions in by_flow.items():
        bits = control.flows.bits(flow)
        old = before.get(flow)
        specs = {v.version: (old.specs.get(v.version) if old else None) or load_spec(v.text) for v in versions}
        known[flow] = Known(versions, specs, bits.checkpoints, bits.hops)
    return known
