"""What is installed: the lock, the extras and what the wheel carries."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tracker.assets import folder

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
EXTRAS = PROJECT["optional-dependencies"]


@cache
def _pins() -> dict[str, str]:
    """name -> version of every package that the lock pins."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", LOCK, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_the_lock_satisfies_every_extra(extra: str) -> None:
    """Each requirement of the base and of each extra is pinned, at a version that it allows (else: `make lock`)."""
    for text in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == PROJECT["name"]:
            assert requirement.extras <= set(EXTRAS)
            continue
        assert name in _pins(), f"{name} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(_pins()[name], prereleases=True), f"{text}: {_pins()[name]} is locked"


def test_all_means_all() -> None:
    """`message-tracker[all]` has every extra but the developers' one."""
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(EXTRAS) - {"all", "dev"}


def test_the_lock_pins_hashes() -> None:
    """Every pinned package carries at least one hash, so that pip refuses anything else."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    unpinned = [
        block.split()[0] for block in blocks if re.match(r"[A-Za-z0-9]", block) and "--hash=sha256:" not in block
    ]
    assert unpinned == []


def test_the_lock_works_everywhere() -> None:
    """The lock names no index, no host and no path of a machine: it installs from whatever index pip is set up for."""
    assert re.findall(r"(?i)https?:|file:|index-url|find-links|trusted-host|^/|\s/\w", LOCK) == []


def test_the_base_installs_light() -> None:
    """A sidecar's installation has no database, web framework, data frame or broker client."""
    names = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    heavy = {
        canonicalize_name(Requirement(t).name) for e in ("server", "embedded", "kafka", "rabbitmq") for t in EXTRAS[e]
    }
    assert names & heavy == set()


def test_the_commands_are_installed() -> None:
    """`tracker` and `collectors` are commands, and what they point to can be imported and called."""
    for name, target in PROJECT["scripts"].items():
        (script,) = entry_points(group="console_scripts", name=name)
        assert script.value == target
        assert callable(script.load())


@pytest.mark.parametrize("name", ["dashboards", "alerts", "runbooks"])
def test_a_checkout_has_its_assets(name: str) -> None:
    """An editable installation finds dashboards, alerts and runbooks where people edit them, and they are not empty."""
    assert any(folder(name).iterdir())  # type: ignore[arg-type]


def test_the_wheel_carries_all_data(tmp_path: Path) -> None:
    """The wheel holds every file of the packages (SQL, migrations, templates) and the assets that a service serves."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    carried = set(zipfile.ZipFile(wheel).namelist())
    roots = {"tracker": "tracker", "collectors": "collectors", "dashboards": "tracker/_assets/dashboards"}
    roots |= {"alerts": "tracker/_assets/alerts", "docs/runbooks": "tracker/_assets/runbooks"}
    for source, target in roots.items():
        files = [path for path in (ROOT / source).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        missing = {f"{target}/{path.relative_to(ROOT / source)}" for path in files} - carried
        assert missing == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in carried)
