from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.lines import lines_of_code

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/add-a-collector.md").read_text("utf-8")
BLOCKS = {name: body for _, name, body in re.findall(r'^(`{3,4})\w+ title="([^"]+)"\n(.*?)^\1$', PAGE, re.M | re.S)}
JOIN = """
import collectors
collectors.__path__.append({extra!r})
"""


def test_what_is_a_line_of_code() -> None:
    """Neither a docstring, of whatever it is, nor a comment, nor a blank line; each line of a string that is none."""
    source = '''"""Module.

Two."""
# why
X = 1  # one
"""Of X."""

def f(
    a,
):
    """F."""
    return """a

b"""
'''
    assert lines_of_code(source) == 7


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The page's own code as a reader would lay it out, beside the collectors that there are."""
    for name in ("collectors/file_tail.py", "tests/contract/test_file_tail.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(BLOCKS[name], "utf-8")
    (tmp_path / "conftest.py").write_text(JOIN.format(extra=str(tmp_path / "collectors")))
    return tmp_path


def _python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=240
    )


def test_the_page_names_five_things() -> None:
    """File, contract class, docs page, extra and registry line each have their block."""
    assert set(BLOCKS) == {
        "collectors/file_tail.py",
        "tests/contract/test_file_tail.py",
        "collectors/registry.py",
        "pyproject.toml",
        "docs/collectors/file.md",
    }


def test_the_file_stays_small() -> None:
    """A collector is one file of about 150 lines, its contract class about 20 beside imports."""
    assert BLOCKS["collectors/file_tail.py"].count("\n") <= 165
    assert BLOCKS["tests/contract/test_file_tail.py"].count("\n") <= 45


def test_the_collector_of_the_page_keeps_the_contract(built: Path) -> None:
    """The code blocks, put where the page says, pass every test of the contract suite."""
    ran = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "tests/contract", folder=built)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    suite = (ROOT / "tests/contract/suite.py").read_text("utf-8")
    assert f"{suite.count('    def test_')} passed" in ran.stdout


def test_the_collector_of_the_page_is_strictly_typed(built: Path) -> None:
    """mypy --strict finds nothing in the page's file, so a reader starts clean."""
    path = "collectors/file_tail.py"
    options = ["--strict", "--no-incremental", "--follow-imports=silent", "--config-file", os.devnull]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", "mypy", *options, "--scripts-are-modules", path]
    ran = subprocess.run(command, cwd=built, env=env, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_registry_line_leads_to_it(built: Path) -> None:
    """With the page's line in `KINDS`, the page's own configuration makes the collector, and a wrong key is named."""
    line = BLOCKS["collectors/registry.py"].strip()
    ast.parse("{" + line + "}")
    config = re.findall(r"```yaml\n(.*?)```", BLOCKS["docs/collectors/file.md"], re.S)[0]
    (built / "file.yaml").write_text(config)
    script = f"""
import conftest
from collectors import registry
from collectors.registry import Kind
from collectors.config import read_config
from collectors.errors import ConfigInvalid
from pathlib import Path
registry.KINDS = {{**registry.KINDS, {line}}}
[described] = read_config(Path("file.yaml"), {{}}).config.collectors
made = registry.factory(described.kind)(described.name, described.settings)
assert made.sources() == []
try:
    registry.factory(described.kind)(described.name, {{**described.settings, "pth": "x"}})
except ConfigInvalid as error:
    assert "billing-journal" in str(error) and "pth" in str(error), error
else:
    raise AssertionError("an unknown key was taken")
"""
    ran = _python("-c", script, folder=built)
    assert ran.returncode == 0, ran.stderr


def test_it_vouches_for_nothing_it_has_not_read(built: Path) -> None:
    """Until the end of the file was reached it names no source; lag counts from the last look that found the end; a
    restart goes on where it was committed; a file that vanished or shrank is `Unavailable`."""
    script = """
import conftest
from pathlib import Path
from collectors.file_tail import Config, FileTail
from collectors.base import Unavailable
now = [1_800_000_000_000_000]
journal = Path("journal")
journal.write_text('{"id": "a"}\\n{"id": "b"}\\n{"id": "half')
settings = Config(path="journal", cursor="cursor", flow="orders", hop="billing")
def make(): return FileTail(settings, lambda: now[0])
one = make()
first = one.read(1, 0)
assert one.sources() == [] and len(first) == 1
second = one.read(10, 0)
assert [s.source for s in one.sources()] == ["journal"] and len(second) == 1
assert one.lag().ms == 0 and one.lag().backlog == len('{"id": "half')
now[0] += 5_000_000
assert one.lag().ms == 5000
one.commit(first)
again = make()
assert again.sources() == [] and [again.decode(r)[0].message_id for r in again.read(10, 0)] == ["b"]
one.commit(second)
later = make()
assert later.sources() and later.lag().ms == 5000 and later.read(10, 0) == []
for spoil in (lambda: journal.write_text("x"), journal.unlink):
    spoil()
    try:
        later.read(1, 0)
    except Unavailable as error:
        assert "journal" in str(error)
    else:
        raise AssertionError("not said")
"""
    ran = _python("-c", script, folder=built)
    assert ran.returncode == 0, ran.stderr


def test_the_extra_is_one_line_of_toml() -> None:
    """The extra's line can be pasted under `[project.optional-dependencies]`."""
    [(name, packages)] = tomllib.loads(BLOCKS["pyproject.toml"]).items()
    assert name == "mqtt"
    assert packages


def test_the_docs_page_shows_a_configuration() -> None:
    """The least page has a table of what cannot be seen and a configuration of the kind."""
    page = BLOCKS["docs/collectors/file.md"]
    [config] = re.findall(r"```yaml\n(.*?)```", page, re.S)
    assert yaml.safe_load(config)["collectors"][0]["kind"] == "file"
    assert "not observable" in page


def test_the_page_says_how_much_mqtt_took() -> None:
    """The numbers are those of the command beside them, to a tenth: a small mend of a file needs none of the page. The
    collector itself is no larger than the page says."""
    command, printed = re.findall(r"```sh\n(python -m tests.docs.lines .*?)\n```\n\n```\n(.*?)\n```", PAGE, re.S)[0]
    said = {path: int(lines) for lines, path in (line.split() for line in printed.splitlines())}
    counted = {path: lines_of_code((ROOT / path).read_text("utf-8")) for path in command.split()[3:]}
    assert counted["collectors/mqtt.py"] <= 210
    assert said.keys() == counted.keys() | {"total"}
    assert all(abs(said[path] - lines) <= lines / 10 for path, lines in counted.items()), counted
    assert said["total"] == sum(lines for path, lines in said.items() if path != "total")
