"""The pages that people read, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
HEADINGS = (
    "What it means",
    "How bad",
    "Look here",
    "Decide",
    "Do",
    "Verify",
    "Escalate",
    "Afterwards",
)
"""Of every runbook, in this order."""
_FENCE = re.compile(r"^(`{3,})(\S*)[^\n]*\n(.*?)^\1 *$", re.M | re.S)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def all_pages() -> list[Path]:
    """Every Markdown page."""
    return [ROOT / name for name in TOP] + sorted((ROOT / "docs").rglob("*.md"))


def prose(path: Path) -> str:
    """The text without its code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", path.read_text("utf-8")))


def blocks(path: Path, language: str) -> list[str]:
    """The fenced code of one language."""
    return [body for _, said, body in _FENCE.findall(path.read_text("utf-8")) if said == language]


def links(path: Path) -> list[str]:
    """Where the page's links lead, as written."""
    return _LINK.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def commands(path: Path) -> Iterator[str]:
    """Lines of `sh` blocks and of blocks indented by four, continuation lines joined."""
    text = path.read_text("utf-8")
    shell = "\n".join(body for _, said, body in _FENCE.findall(text) if said in ("sh", "bash", "console"))
    indented = "\n".join(line[4:] for line in _FENCE.sub("", text).splitlines() if line.startswith("    "))
    for line in (shell + "\n" + indented).replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()
