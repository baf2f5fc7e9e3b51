from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from collectors.main import app as collectors_app
from collectors.registry import KINDS
from tests.docs.pages import ROOT, all_pages, anchors, blocks, commands, links
from tracker.cli import settings
from tracker.cli.main import app as tracker_app
from tracker.model.coverage import Hole
from tracker.model.event import DROP_REASONS, Stage
from tracker.model.verdict import Flag, Status, Verdict

EVERY = pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in all_pages()])
TRACKER = typer.main.get_command(tracker_app)
COLLECTORS = typer.main.get_command(collectors_app)
DOCS = "\n".join(path.read_text("utf-8") for path in all_pages())
CONCEPTS = (ROOT / "docs/concepts.md").read_text("utf-8")


@EVERY
def test_every_relative_link_resolves(page: Path) -> None:
    """A link leads to a file that exists, and to a heading that exists where it names one."""
    for link in links(page):
        if re.match(r"[a-z]+:", link) or link.startswith("/"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


@EVERY
def test_every_command_exists(page: Path) -> None:
    """A `tracker`, `collectors` or `make` command on a page exists, with the options that it is given."""
    for line in commands(page):
        for part in re.split(r"\||&&|;|(?<!\S)>(?!\S)", line):
            _check(part.strip())


def _check(command: str) -> None:
    try:
        words = shlex.split(command.replace("...", "x"), comments=True)
    except ValueError:
        return
    words = [word for word in words if not re.match(r"^[A-Z_]+=", word)]
    if not words:
        return
    name = words[0].removeprefix(".venv/bin/")
    if name in ("tracker", "collectors"):
        _parsed(TRACKER if name == "tracker" else COLLECTORS, words[1:], command)
    elif name == "make":
        for target in (word for word in words[1:] if "=" not in word):
            assert target in _targets(), f"no target: {command}"


def _parsed(group: Any, words: list[str], line: str) -> None:
    """Walk down the groups by name; every option used is one of the command's."""
    while getattr(group, "commands", None) and words and not words[0].startswith("-"):
        found = group.commands.get(words[0]) or group.commands.get("start")  # `tracker replay orders`
        assert found is not None, f"no command {words[0]!r}: {line}"
        words = words[1:] if words[0] in group.commands else words
        group = found
    known = {option for parameter in group.params for option in parameter.opts} | {"--help"}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known, f"{sorted(used - known)} unknown: {line}"


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def _leaves(group: Any, name: str) -> list[str]:
    children = getattr(group, "commands", {})
    return [leaf for child in children for leaf in _leaves(children[child], f"{name} {child}")] or [name]


@pytest.mark.parametrize("command", [*_leaves(TRACKER, "tracker"), *_leaves(COLLECTORS, "collectors")])
def test_every_command_is_on_a_page(command: str) -> None:
    """Somebody who reads the docs meets every command."""
    shown = command.replace("replay start", "replay")
    assert re.search(rf"{re.escape(shown)}\b", DOCS), command


@pytest.mark.parametrize("kind", [settings.ClientSettings, settings.ServiceSettings])
def test_every_setting_is_on_a_page(kind: Any) -> None:
    """Each environment variable is described."""
    missing = [name for name, _, _ in settings.described(kind) if f"`{name}`" not in DOCS]
    assert missing == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_collector_has_a_page(kind: str) -> None:
    """A page in docs/collectors shows a configuration of every kind, and says what it cannot see."""
    pages = [p for p in (ROOT / "docs/collectors").glob("*.md") if f"kind: {kind}\n" in p.read_text("utf-8")]
    assert pages, f"no page with `kind: {kind}`"
    assert any("cannot" in page.read_text("utf-8") for page in pages)


@pytest.mark.parametrize(
    "extra", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)
def test_every_extra_is_on_a_page(extra: str) -> None:
    """Somebody who installs only a part finds its name."""
    assert re.search(rf"\[[\w,]*\b{extra}\b[\w,]*\]", DOCS), extra


@pytest.mark.parametrize(
    "words", [Verdict, Status, Flag, Stage, DROP_REASONS], ids=lambda w: getattr(w, "__name__", "drop")
)
def test_every_word_of_the_model_is_explained(words: Any) -> None:
    """Every verdict, status, flag, stage and reason stands on the concepts page."""
    missing = [word for word in words if f"`{word}`" not in CONCEPTS]
    assert missing == []


def test_every_cause_of_a_blind_spot_is_explained() -> None:
    """Every cause that an answer may name stands on the concepts page."""
    causes = re.findall(r"'(\w+)'", str(Hole.__annotations__["cause"])) or re.findall(
        r'"(\w+)"', str(Hole.__annotations__["cause"])
    )
    assert causes
    assert [cause for cause in causes if f"`{cause}`" not in CONCEPTS] == []


def test_the_index_of_decisions_is_complete() -> None:
    """Every ADR is in the index and in order, and the index lists nothing that is not there."""
    folder = ROOT / "docs/adr"
    listed = [link for link in links(folder / "README.md") if re.match(r"\d{4}-", link)]
    kept = sorted(path.name for path in folder.glob("[0-9][0-9][0-9][0-9]-*.md"))
    assert listed == kept


def test_decisions_have_one_shape() -> None:
    """Every ADR begins with its number and says its status, its question and its decision."""
    for path in sorted((ROOT / "docs/adr").glob("[0-9][0-9][0-9][0-9]-*.md")):
        text = path.read_text("utf-8")
        assert re.match(rf"# {int(path.name[:4])}\. ", text), path.name
        assert "Status: " in text, path.name
        assert "## Question" in text, path.name
        assert "## Decision" in text, path.name


def test_the_readme_links_to_every_page_at_the_top_of_docs() -> None:
    """Nobody has to guess that a page exists."""
    led = set(links(ROOT / "README.md"))
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f"docs/{path.name}" not in led]
    assert missing == []


def test_specs_on_pages_are_valid() -> None:
    """Every flow spec that a page shows in full is accepted."""
    from tracker.model.spec import load_spec

    shown = [text for page in all_pages() for text in blocks(page, "yaml") if text.startswith("flow:")]
    assert len(shown) >= 2
    for text in shown:
        load_spec(text)
