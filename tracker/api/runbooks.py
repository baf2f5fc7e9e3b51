"""Which runbooks this installation has, and which one belongs to an incident."""

from __future__ import annotations

import re
from pathlib import Path

from tracker import assets
from tracker.api.problem import Problem
from tracker.api.service import Service
from tracker.control.errors import NotFound
from tracker.control.incidents import Incident

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def names() -> list[str]:
    """Every runbook, by name."""
    try:
        return sorted(path.stem for path in assets.folder("runbooks").glob("*.md"))
    except FileNotFoundError:
        return []


def path_of(name: str) -> Path:
    """Its file; only names that a listing of the folder gave are opened. Raises Problem 404 naming the others."""
    if not _NAME.fullmatch(name) or name not in names():
        raise Problem(404, f"no runbook {name[:100]!r}; there are: {', '.join(names()) or 'none'}")
    return assets.folder("runbooks") / f"{name}.md"


def link(service: Service, incident: Incident) -> str:
    """Where its runbook is: the flow's own where this installation has it, else the one for this kind of finding; with
    this incident's numbers and ids in it."""
    try:
        named = service.specs.of(incident.flow).spec.runbook
    except NotFound:
        named = ""
    if named.startswith(("http://", "https://")):
        return named
    own = named.removeprefix("runbooks/")
    return f"/runbooks/{own if own in names() else incident.kind}?incident={incident.id}"
