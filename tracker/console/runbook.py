"""A runbook as a page: rendered, its commands filled in for the incident at hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
_FENCE = re.compile(r"^```sh\n.*?^```$", re.DOTALL | re.MULTILINE)
_ASSIGNED = re.compile(r"^([a-z]+)=.*$", re.MULTILINE)


def rendered(text: str, values: Mapping[str, str] | None = None) -> str:
    """HTML of a runbook's Markdown; HTML inside it stays text. `values`: what the variables that its commands begin
    with are to be, by name; others stay as they are."""
    if values:
        text = _FENCE.sub(lambda fence: _filled(fence[0], values), text)
    return str(_MARKDOWN.render(text))


def _filled(commands: str, values: Mapping[str, str]) -> str:
    def filled(one: re.Match[str]) -> str:
        name = one[1]
        return f"{name}={shlex.quote(values[name])}" if name in values else one[0]

    return _ASSIGNED.sub(filled, commands)


def title(text: str) -> str:
    """Its first line."""
    return text.lstrip().partition("\n")[0].lstrip("# ").strip()
