"""Drafts of a configuration and of flow specs, from what was found in a live system. Pure.

What cannot be known is left as comments that begin with `TODO`, so a draft runs as it is and says what to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

WITHIN = "5m"
"""Until somebody says how soon."""
PRODUCER = "TODO who produces: add {hop: NAME, stage: produce} and, at the persist, `after: NAME, within: ...`."
"""Above each flow spec: the collector of a broker sees no producer."""
_WIDTH = 118


class Asked(NamedTuple):
    """How to look. `settings`: of the client library, each as (given, expanded); `identity_header`: which header
    carries the id, where it is not ours; `management`: address of a management API, where it is not the usual one."""

    settings: Mapping[str, tuple[str, str]] = {}
    identity_header: str = ""
    management: str = ""


class Entry(NamedTuple):
    """A collector of the configuration, and what stands above it."""

    notes: Sequence[str]
    values: Mapping[str, Any]


class Flow(NamedTuple):
    """A flow spec, and what stands above its checkpoints."""

    name: str
    notes: Sequence[str]
    checkpoints: Sequence[Mapping[str, Any]]


class Found(NamedTuple):
    """What was found at `system`: `items` as it is, `notes` on the whole, and what to make of it."""

    system: str
    notes: Sequence[str]
    items: Sequence[Mapping[str, Any]]
    collectors: Sequence[Entry]
    flows: Sequence[Flow]


def named(text: str) -> str:
    """As flows, hops and collectors are named."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "unnamed"


def config(found: Found) -> str:
    """CONFIG.yaml; nothing when there is nothing to watch."""
    if not found.collectors:
        return ""
    lines = [
        f"# Drafted from {found.system}. Right are at most the names: decide what is marked TODO, then",
        "# collectors run --check, put the flows (tracker flows put), and collectors run.",
        *_comments(found.notes),
        "tracker:",
        "  url: http://127.0.0.1:8000  # TODO the tracker's address",
        "  token: ${TRACKER_TOKEN}",
        "spool: /var/lib/collectors  # TODO a folder that outlives the process",
        "# listen: 127.0.0.1:9464  # health and metrics: pip install message-tracker[metrics]",
        "collectors:",
    ]
    for entry in found.collectors:
        lines += [f"  {line}" for line in _comments(entry.notes)]
        lines += [f"  {line}" for line in _yaml([entry.values])]
    return "\n".join(lines) + "\n"


def spec(flow: Flow, system: str) -> str:
    """A flow spec."""
    lines = [f"# Drafted from {system}. Check who must have it, and how soon.", *_comments(flow.notes)]
    lines += [f"flow: {flow.name}", 'owner: ""  # TODO who is told when messages are missing', "checkpoints:"]
    lines += [f"  - {_inline(point)}" for point in flow.checkpoints]
    return "\n".join(lines) + "\n"


def listing(values: Iterable[Mapping[str, Any]]) -> list[str]:
    """Entries of a list as lines to be put into a comment."""
    return [f"  - {_inline(value)}" for value in values]


def _comments(notes: Iterable[str]) -> list[str]:
    return [f"# {line}" for note in notes for line in note.splitlines()]


def _inline(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), default_flow_style=True, sort_keys=False, width=10_000).strip()


def _yaml(value: Any) -> list[str]:
    return yaml.safe_dump(value, sort_keys=False, width=_WIDTH, allow_unicode=True).splitlines()
