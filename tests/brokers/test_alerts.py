from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from alerts.generate import FILE, alerts
from tests.brokers.alert_scenes import SCENES, Scene

pytestmark = pytest.mark.brokers


def test_promtool_accepts_the_rules(promtool: str) -> None:
    """Every expression and template can be read by Prometheus."""
    checked = subprocess.run([promtool, "check", "rules", str(FILE)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


def test_every_alert_has_a_scene() -> None:
    """No alert is left untested."""
    assert [scene.alert for scene in SCENES] == [alert.name for alert in alerts()]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.alert)
def test_it_fires_is_quiet_and_resolves(scene: Scene, promtool: str, tmp_path: Path) -> None:
    """The alert is quiet while all is well and until its time has passed, then fires with the labels, summary and links
    that a person needs, and is over once all is well again. Series that look alike do not set it off."""
    alert = next(alert for alert in alerts() if alert.name == scene.alert)
    suite = {
        "rule_files": [str(FILE)],
        "evaluation_interval": "15s",
        "tests": [scene.test(alert.severity, alert.text, alert.runbook)],
    }
    path = tmp_path / "scene.yaml"
    path.write_text(yaml.safe_dump(suite))
    tested = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert tested.returncode == 0, tested.stdout + tested.stderr
