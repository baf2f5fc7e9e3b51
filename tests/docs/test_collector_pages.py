from __future__ import annotations

import re
from pathlib import Path

import pytest

from collectors import registry
from collectors.config import read_config
from tests.contract.http_tracker import HttpTracker

PAGES = Path(__file__).parents[2] / "docs/collectors"


def blocks(page, language):
    """The code blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (PAGES / page).read_text("utf-8"), re.M | re.S)


def test_every_page_is_listed():
    """Whatever page there is about a collector, the index links to it, and every link leads somewhere."""
    index = (PAGES / "index.md").read_text("utf-8")
    linked = re.findall(r"\]\(([\w./-]+\.md)\)", index)
    assert {page.name for page in PAGES.glob("*.md")} - {"index.md"} <= set(linked)
    assert all((PAGES / page).exists() for page in linked)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_kind_has_its_row(kind):
    """The table of what can be seen names each kind that a configuration can name."""
    assert f"`{kind}`" in (PAGES / "index.md").read_text("utf-8")


@pytest.mark.parametrize("page", ["index.md", "memory.md", "mqtt.md"])
def test_the_configuration_of_a_page_is_good(tmp_path, page):
    """It can be read, and its collectors can be made."""
    text, *_ = blocks(page, "yaml")
    (tmp_path / "config.yaml").write_text(text)
    found = read_config(tmp_path / "config.yaml", {"TRACKER_TOKEN": "x", "MQTT_URL": "mqtt://127.0.0.1"}).config
    for wanted in found.collectors:
        registry.factory(wanted.kind)(wanted.name, wanted.settings).close()


@pytest.mark.parametrize(("page", "stages"), [("emitter.md", ["ack"]), ("memory.md", ["produce", "deliver", "ack"])])
def test_the_program_of_a_page_works(tmp_path, page, stages):
    """As it stands, given a tracker and a folder: its observations arrive and its sources end."""
    (program,) = blocks(page, "python")
    with HttpTracker() as tracker:
        exec(program, {"url": tracker.url, "token": "", "folder": tmp_path / "spool"})
    assert [line["stage"] for request in tracker.stored for line in request.lines] == stages
    assert tracker.stored[-1].report["signed_off"]
