"""`tracker simulate`: its answer, its exit codes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from tracker.cli import logs
from tracker.cli import main as cli

Command = Callable[..., tuple[int, Any, str]]
SMALL = """
name: {name}
about: A consumer loses some.
flow:
  flow: orders
  checkpoints:
    - {{hop: shop, stage: produce}}
    - {{hop: mailer, stage: ack, after: shop, within: 5s}}
messages: 50
over: 10s
until: 30s
report_every: 5s
faults: [{{kind: drop, place: mailer, share: 0.3}}]
"""


def written(folder: Path, name: str = "small") -> Path:
    """A scenario file."""
    path = folder / f"{name}.yaml"
    path.write_text(SMALL.format(name=name), encoding="utf-8")
    return path


@contextmanager
def logging_as_before() -> Iterator[None]:
    """The command sends log lines to stderr, which is this test's own: whoever logs after it would write into a file
    that is closed. Nor may a logger remember what it was told meanwhile."""
    root, before, configure = logging.getLogger(), structlog.get_config(), structlog.configure
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", *logs.CHATTY)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **more: configure(**more | {"cache_logger_on_first_use": False}))
        try:
            yield
        finally:
            configure(**before)
            root.handlers[:] = handlers
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command for machines; gives its exit code, what it answered, and what it said beside."""

    def command(scenario: Path, *more: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["tracker", "simulate", "--scenario", str(scenario), "--json", *more])
        code: Any = 0
        try:
            with logging_as_before():
                cli.main()
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return int(code or 0), json.loads(said.out or "null"), said.err

    return command


def test_one_scenario_answers_with_its_score(simulate: Command, tmp_path: Path) -> None:
    """Exit code 0 when all was right; for machines, precision and recall of all that occurred."""
    code, answer, _ = simulate(written(tmp_path))
    assert code == 0
    [score] = answer["scenarios"]
    assert score["perfect"]
    assert score["conserved"]
    assert score["messages"] == 50
    missing = score["verdicts"]["unacknowledged"]
    assert missing["truth"] == missing["found"] > 5
    assert missing["precision"] == missing["recall"] == 1
    assert score["detection_delay_s"]["max"] <= 15


def test_a_folder_in_which_too_little_happens_fails_and_says_what(simulate: Command, tmp_path: Path) -> None:
    """Nothing is proved of a verdict that hardly occurred, however right the scenarios are."""
    written(tmp_path)
    code, answer, _ = simulate(tmp_path)
    assert code == 1
    assert not answer["perfect"]
    assert answer["rare"]["divergent"] == 0
    assert answer["scenarios"][0]["perfect"]


def test_a_file_that_is_missing_or_wrong_is_a_mistake_of_usage(simulate: Command, tmp_path: Path) -> None:
    """Exit code 2, and what to look at: the file, and the field."""
    code, _, said = simulate(tmp_path / "nothing.yaml")
    assert (code, "nothing.yaml" in said) == (2, True)
    path = written(tmp_path)
    path.write_text(path.read_text("utf-8").replace("share", "shaer"), encoding="utf-8")
    code, _, said = simulate(path)
    assert (code, "small.yaml: faults.0.shaer" in said) == (2, True)
    (tmp_path / "none").mkdir()
    code, _, said = simulate(tmp_path / "none")
    assert (code, "holds no scenario" in said) == (2, True)


def test_it_leaves_logging_as_it_was(simulate: Command, tmp_path: Path) -> None:
    """Or every test after these would have its log lines go nowhere, with a complaint about each."""
    before = logging.getLogger().handlers[:], logging.getLogger().level, structlog.get_config()
    simulate(tmp_path / "nothing.yaml")
    simulate(written(tmp_path))
    assert (logging.getLogger().handlers, logging.getLogger().level, structlog.get_config()) == before


def test_a_kept_ledger_is_one_world(monkeypatch: pytest.MonkeyPatch, simulate: Command, tmp_path: Path) -> None:
    """A relative folder will do; the same world once more would be judged on what the first left, and is refused."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path)
    code, _, _ = simulate(path, "--keep", "kept", "--seed", "3")
    assert code == 0
    assert (tmp_path / "kept" / "small-3" / "control.db").exists()
    code, _, said = simulate(path, "--keep", "kept", "--seed", "3")
    assert (code, "exists" in said) == (2, True)
