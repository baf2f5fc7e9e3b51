from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import HEADINGS, blocks, links
from tracker.assets import folder
from tracker.model.verdict import WRONG

BOOKS = sorted(folder("runbooks").glob("*.md"))
EVERY = pytest.mark.parametrize("book", [pytest.param(book, id=book.stem) for book in BOOKS])


@EVERY
def test_it_has_every_part_in_order(book: Path) -> None:
    """What it means, how bad, look here, decide, do, verify, escalate, afterwards: none empty."""
    text = book.read_text("utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    assert tuple(parts[1::2]) == HEADINGS
    assert all(part.strip() for part in parts[2::2])
    assert text.startswith(f"# {book.stem}: ")


@EVERY
def test_its_links_work_where_it_is_served(book: Path) -> None:
    """A runbook is read at /runbooks/NAME: it links to other runbooks only, and those exist."""
    names = {path.name for path in BOOKS}
    assert [link for link in links(book) if link not in names] == []


@EVERY
def test_it_can_be_read_on_a_phone(book: Path) -> None:
    """Lines of prose and commands are short; only table rows may be long."""
    lines = [line for line in book.read_text("utf-8").splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 130] == []


@EVERY
def test_commands_can_be_pasted(book: Path) -> None:
    """Nothing in a command has to be replaced but the variables that stand above it."""
    assigned: set[str] = set()
    for block in blocks(book, "sh"):
        for line in block.splitlines():
            assert not re.search(r"<\w+>|\bXXX\b|\bFLOW\b|\bHOP\b", line), line
            used = set(re.findall(r'"\$\{?(\w+)', line)) - {"TRACKER_URL"}
            assert used <= assigned, f"{line}: {used - assigned} is not set before"
            assigned |= set(re.findall(r"^(\w+)=", line))


def test_every_kind_of_finding_has_a_runbook() -> None:
    """The link of an incident leads to a page."""
    assert {book.stem for book in BOOKS} >= {verdict.value for verdict in WRONG}
