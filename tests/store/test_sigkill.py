"""SIGKILL in the middle of passes, of a process of its own: in the end it has left what an undisturbed run leaves."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.workload import FLOW, HOPS, SPEC, Traffic
from tests.store.conftest import ROOT
from tests.world.installation import T0, Installation
from tracker.model.coverage import SourceRef

KILLS = int(os.environ.get("TRACKER_TEST_KILLS", "5"))
"""How often; each costs the time that the engine takes to start."""
MESSAGES = 60_000
LATER = 400_000_000


def filled(folder: Path) -> int:
    """A ledger with events that no pass has seen: most messages whole, half of them never acked; its `now`."""
    with closing(Installation(folder)) as world:
        world.put(SPEC)
        traffic = Traffic(MESSAGES // 2, "uuid7", T0)
        vouch(world, T0)
        for n in range(3):
            world.store.insert_events(traffic.next(more=n < 2, acked=n == 1))
            vouch(world, traffic.now)
        vouch(world, traffic.now + LATER)
        return world.now


def vouch(world: Installation, now: int) -> None:
    """It is `now`, and everybody has reported."""
    world.now = now
    world.vouch([SourceRef(FLOW, hop, stage, "all") for hop, stage in HOPS])


def run(folder: Path, now: int, lives: float | None) -> tuple[bool, float]:
    """Run passes; killed `lives` seconds after the first began. (was it killed before it was done, seconds it took)"""
    command = [sys.executable, "-m", "tests.store.passing", str(folder), str(now)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "pass\n"
        began = time.monotonic()
        if lives is not None:
            time.sleep(lives)
            child.kill()
        said = child.stdout.read()
        took = time.monotonic() - began
    assert lives is not None or child.returncode == 0
    return "done" not in said, took


def told(folder: Path) -> dict[str, Any]:
    """Every verdict and finding, and what the incidents count."""
    with closing(Installation(folder)) as world:
        engine, db = world.store.engine, world.store.engine.database
        states = engine.rows(
            f"SELECT message_id, verdict, flags, was, look_again FROM {db}.states FINAL ORDER BY message_id"
        )
        findings = engine.rows(
            f"SELECT message_id, hop, stage, kind, status, toString(opened_at) AS opened, incident, why "
            f"FROM {db}.findings FINAL ORDER BY message_id, hop, stage, kind"
        )
        incidents = [(i.id, i.kind, i.status, i.open, i.total) for i in world.control.incidents.page(limit=100).items]
        return {"states": states, "findings": findings, "incidents": sorted(incidents)}


@pytest.mark.timeout(600)
def test_killed_in_mid_pass(tmp_path: Path) -> None:
    """The passes that a killed process left are done again, and leave the same verdicts, findings and incidents."""
    now = filled(tmp_path / "before")
    for copy in ("calm", "killed"):
        shutil.copytree(tmp_path / "before", tmp_path / copy, symlinks=True)
    _, took = run(tmp_path / "calm", now, None)
    wanted = told(tmp_path / "calm")
    assert len(wanted["findings"]) > MESSAGES // 3
    chance, kills = random.Random(3), 0
    while kills < KILLS:
        killed, _ = run(tmp_path / "killed", now, chance.uniform(0, took))
        if not killed:  # it was quicker: begin again with a ledger that nobody has judged
            shutil.rmtree(tmp_path / "killed")
            shutil.copytree(tmp_path / "before", tmp_path / "killed", symlinks=True)
        kills += killed
    run(tmp_path / "killed", now, None)
    assert told(tmp_path / "killed") == wanted
