"""Flow specs under any text: a spec or an error with a line, nothing else; and their paths against the definition."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import cases
from tracker.model.errors import SpecError
from tracker.model.spec import FlowSpec, load_spec

GOOD = """flow: orders
owner: team
checkpoints:
  - {hop: shop, stage: produce, outbox: true}
  - {hop: [east, west], stage: persist, after: shop, within: 5s, quorum: 2}
  - {hop: billing, stage: ack, after: "east:persist", within: 2m, at_most: 1, match: {queue: q}}
schema:
  - {attributes: [tenant, order_id], at: shop}
  - {digest: true, max_size: 1 MiB, at: [ east:persist , billing ]}
objectives: {delivery: {target: 99.9%, window: 30d}, latency: {p99: 2s, window: 1d}}
replay: {sources: [log: east], mode: approve, rate: 500/s}
"""
SLIPS = st.one_of(
    st.sampled_from(
        ["", "~", "[]", "{}", "[a", "{a: 1}", "off", ".inf", ".nan", "-1", "1e400", "2026-13-45", "2026-01-01", "12:30",
         "0x", "!!int x", "!!binary x", "!!set {a}", "&a *a", "*a", "<<: 1", "|", ">", "? a", "'", "\t", "\0", "\ud800"]
    ),
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


def read(text: str) -> FlowSpec | SpecError:
    """What comes of a text; anything else would be raised."""
    try:
        return load_spec(text)
    except SpecError as error:
        return error


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    """Never another kind of error."""
    read(text)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_good_spec_with_a_slip(data: st.DataObject) -> None:
    """Whatever stands in the place of a word: a spec, or an error that names a line of the text."""
    words = GOOD.split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    words[place] = data.draw(SLIPS) + words[place] * data.draw(st.booleans())
    text = " ".join(words)
    found = read(text)
    if isinstance(found, SpecError):
        assert found.line is None or 1 <= found.line <= len(text.splitlines()) + 1
        assert found.reason
    else:
        found.model_dump_json()


@settings(max_examples=60, deadline=None)
@given(cases.specs())
def test_written_and_read(spec: FlowSpec) -> None:
    """A spec as YAML is the same spec."""
    points = [_plain(point.model_dump(mode="json")) for point in spec.checkpoints]
    assert load_spec(yaml.safe_dump({"flow": spec.flow, "checkpoints": points})) == spec


def _plain(point: dict[str, Any]) -> dict[str, Any]:
    if point["within"] is not None:
        point["within"] = f"{point['within']}us"
    return {name: value for name, value in point.items() if value is not None}


@settings(max_examples=120, deadline=None)
@given(cases.specs())
def test_paths_are_what_they_are_defined_to_be(spec: FlowSpec) -> None:
    """Order, nearest required predecessors, what lies behind, and the longest way, each by its definition."""
    paths, everyone = spec.paths, range(len(spec.checkpoints))
    after = [{_named(spec, name) for name in point.after} for point in spec.checkpoints]
    for i in everyone:
        assert all(paths.order.index(p) < paths.order.index(i) for p in after[i])
        assert paths.ancestors[i] == after[i].union(*(paths.ancestors[p] for p in after[i]))
        assert paths.descendants[i] == {d for d in everyone if i in paths.ancestors[d]}
        assert set(paths.before[i]) == _nearest(spec, after, i)
        assert paths.hops_behind[i] == {
            hop for hop in spec.hops
            if all(d in paths.descendants[i] for d in everyone if hop in spec.checkpoints[d].hop)
        }  # fmt: skip
        assert paths.reach[i] == max((paths.reach[p] for p in after[i]), default=0) + (paths.within[i] or 0)
    assert set(paths.roots) == {i for i in everyone if not after[i]}


def _named(spec: FlowSpec, name: str) -> int:
    hop, _, stage = name.partition(":")
    return next(i for i, c in enumerate(spec.checkpoints) if hop in c.hop and c.stage == stage)


def _nearest(spec: FlowSpec, after: list[set[int]], i: int) -> set[int]:
    found: set[int] = set()
    for p in after[i]:
        found |= {p} if spec.checkpoints[p].required else _nearest(spec, after, p)
    return found
