"""`tracker alerts apply` against a real Prometheus."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.servers.prometheus import Prometheus
from tracker.alerting.rules import alerts
from tracker.cli import main as cli

pytestmark = pytest.mark.brokers

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def apply(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; gives its exit code, stdout and stderr."""

    def command(rules: Path, url: str, *options: str) -> tuple[int, str, str]:
        words = ["--prometheus-rules", str(rules), "--reload", url, *options]
        monkeypatch.setattr(sys, "argv", ["tracker", "alerts", "apply", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_rules_are_in_force_or_nothing_changed(
    apply: Run, prometheus_server: Callable[[str], Prometheus], tmp_path: Path
) -> None:
    """Without --yes nothing is written. With it the rules are in force just as they were made, each of them. A file
    that Prometheus does not read is no success, and one that it refuses is put back as it was."""
    folder = tmp_path / "rules"
    folder.mkdir()
    rules = folder / "tracker.yaml"
    prometheus = prometheus_server(f"rule_files: ['{folder}/*.yaml']")

    code, out, _ = apply(rules, prometheus.url)
    assert (code, rules.exists(), "+  - alert: MessagesLost" in out) == (0, False, True)
    assert "nothing was written" in out

    code, out, err = apply(rules, f"{prometheus.url}/-/reload", "--yes")
    assert (code, err) == (0, "")
    assert f"{len(alerts())} rules of {rules} are in force" in out
    assert {path.name for path in folder.iterdir()} == {"tracker.yaml"}
    groups = httpx.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
    assert {rule["name"] for group in groups for rule in group["rules"]} == {alert.name for alert in alerts()}

    code, out, _ = apply(rules, prometheus.url, "--json")
    assert (code, json.loads(out)["difference"], json.loads(out)["dry_run"]) == (0, "", True)

    elsewhere = tmp_path / "elsewhere.yaml"
    code, _, err = apply(elsewhere, prometheus.url, "--yes", "--console-url", "https://other.example")
    assert (code, "has not these rules" in err, "MessagesLost" in err, "rule_files" in err) == (2, True, True, True)

    (folder / "broken.yaml").write_text("groups: [{name: x, rules: [{alert: X, expr: '('}]}]")
    before = rules.read_text()
    code, _, err = apply(rules, prometheus.url, "--yes", "--console-url", "https://other.example")
    assert (code, rules.read_text() == before, "is as it was before" in err) == (2, True, True)
    assert "loading groups failed" in err or "failed to reload" in err


def test_one_expression_that_differs_is_noticed(
    apply: Run, prometheus_server: Callable[[str], Prometheus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus reads another file in which one number of one rule is older: names, labels and links are the same."""
    rules, read = tmp_path / "tracker.yaml", tmp_path / "read.yaml"
    prometheus = prometheus_server(f"rule_files: ['{read}']")
    assert apply(read, prometheus.url, "--yes")[0] == 0
    read.write_text(read.read_text().replace("> 700", "> 701"))
    code, _, err = apply(rules, prometheus.url, "--yes")
    assert code == 2
    assert "StorePartsMany" in err
    assert "MessagesLost" not in err
