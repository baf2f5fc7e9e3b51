"""Runbooks as pages, so that a link in an alert leads to something that can be read."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt

from tracker import assets
from tracker.api.problem import Problem
from tracker.console.pages import render

routes = APIRouter(prefix="/runbooks", tags=["operations"])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")


@routes.get("/{name}", response_class=HTMLResponse)
def runbook(request: Request, name: str) -> HTMLResponse:
    """The runbook of that name, rendered; HTML inside it is shown as text."""
    path = _path(name.removesuffix(".md"))
    return render(request, "runbook.html", title=_title(path), body=_MARKDOWN.render(path.read_text("utf-8")))


def names() -> list[str]:
    """Every runbook of this installation."""
    try:
        return sorted(path.stem for path in assets.folder("runbooks").glob("*.md"))
    except FileNotFoundError:
        return []


def _path(name: str) -> Path:
    """Only names that a listing of the folder gave are opened. Raises Problem 404 naming the others."""
    if not _NAME.fullmatch(name) or name not in names():
        raise Problem(404, f"no runbook {name[:100]!r}; there are: {', '.join(names()) or 'none'}")
    return assets.folder("runbooks") / f"{name}.md"


def _title(path: Path) -> str:
    first = path.read_text("utf-8").lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() or path.stem
