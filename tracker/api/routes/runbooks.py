"""Runbooks as pages, so that a link in an alert leads to something that can be read."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markdown_it import MarkdownIt

from tracker.api.runbooks import path_of
from tracker.console.pages import render

routes = APIRouter(prefix="/runbooks", tags=["operations"])
_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")


@routes.get("/{name}", response_class=HTMLResponse)
def runbook(request: Request, name: str) -> HTMLResponse:
    """The runbook of that name, rendered; HTML inside it is shown as text."""
    path = path_of(name.removesuffix(".md"))
    return render(request, "runbook.html", title=_title(path), body=_MARKDOWN.render(path.read_text("utf-8")))


def _title(path: Path) -> str:
    first = path.read_text("utf-8").lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() or path.stem
