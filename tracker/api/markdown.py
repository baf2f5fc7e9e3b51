"""Markdown with other people's text in it: ids, reasons, notes. Whatever they hold, it stays text.

A template's values become code spans unless they are numbers, small letters only, or were made here. In a code span
nothing is markup: no link, image, HTML, mention or heading, wherever the page is shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tracker.model.units import rfc3339, say

_LONGEST = 2000
"""Characters of one value that are shown."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Characters that break lines, turn the direction of text or cannot be seen."""


_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")
"""No markup can be made of it."""


class Safe(str):
    """Markdown of ours, which is printed as it is."""


def code(value: object) -> Safe:
    """One line as a code span, between more backticks than are in it."""
    text = plain(str(value))
    if not text.strip():
        return Safe("(empty)")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return Safe(f"{fence}{pad}{text}{pad}{fence}")


def block(lines: list[str]) -> Safe:
    """Lines as a fenced block, under a fence that is in none of them."""
    shown = [plain(line) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(longest + 1, 3)
    return Safe("\n".join([f"{fence}text", *shown, fence]))


def plain(text: str) -> str:
    """The text on one line, what cannot be seen written as its number, cut where it is too long."""
    shown = "".join(f"<U+{ord(c):04X}>" if unicodedata.category(c) in _UNSEEN else c for c in text[:_LONGEST])
    return shown + (f"... ({len(text)} characters)" if len(text) > _LONGEST else "")


def when(micros: int | None) -> Safe:
    """A time, to the millisecond."""
    return Safe(f"{rfc3339(micros)[:-4]}Z" if micros else "-")


def span(micros: int | None) -> Safe:
    """A duration, to the millisecond."""
    return Safe("-" if micros is None else say(round(micros, -3)))


def _printed(value: Any) -> str:
    harmless = isinstance(value, Safe | int | float) or (isinstance(value, str) and _WORD.fullmatch(value))
    return str(value) if harmless else code(value)


_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=False,  # noqa: S701 - not HTML; `finalize` makes every value a code span
    finalize=_printed,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_pages.filters |= {"when": when, "span": span, "block": block, "code": code}


def render(template: str, values: Mapping[str, Any]) -> str:
    """The template filled in; every value that is neither a number nor `Safe` becomes a code span."""
    return _pages.get_template(template).render(values)
