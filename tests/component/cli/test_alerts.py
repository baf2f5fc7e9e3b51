"""`tracker alerts`: render, check, and what apply says when Prometheus is not as it should be."""

import json
import os
import shutil

import pytest
import yaml

from tests.component.cli.test_commands import answers, page, run

__all__ = ["answers", "run"]

SPEC = "flow: {}\nowner: {}\ncheckpoints:\n  - {{hop: a, stage: produce}}\n"
RECEIVERS = "receivers:\n  operations: {webhook_configs: [{url: 'https://ops.example'}]}\n"


@pytest.fixture
def orders(tmp_path):
    """The file of a flow with an owner."""
    path = tmp_path / "orders.yaml"
    path.write_text(SPEC.format("orders", "team-payments"))
    return str(path)


def test_both_files_are_printed_or_written(run, orders, tmp_path):
    """As two documents, as JSON, or into a folder; the same texts."""
    code, out, _ = run("alerts", "render", orders, "--console-url", "https://t.example/")
    rules, routes = yaml.safe_load_all(out)
    assert code == 0
    assert rules["groups"][0]["rules"][0]["annotations"]["runbook_url"].startswith("https://t.example/runbooks/")
    assert {one["name"] for one in routes["receivers"]} == {"operations", "team-payments", "watchdog"}
    folder = tmp_path / "made"
    code, said, _ = run("alerts", "render", orders, "--console-url", "https://t.example/", "--to", str(folder))
    assert (code, "1 flows: " in said, sorted(os.listdir(folder))) == (0, True, ["alertmanager.yaml", "tracker.yaml"])
    assert "---\n".join((folder / name).read_text() for name in ("tracker.yaml", "alertmanager.yaml")) == out
    as_json = json.loads(run("alerts", "render", orders, "--console-url", "https://t.example", "--json")[1])
    assert as_json == {path.name: path.read_text() for path in folder.iterdir()}


def test_flows_come_from_a_tracker(run, answers):
    """With the token; its address is where links lead, unless told otherwise."""
    answers.body = page({"flow": "orders", "text": SPEC.format("orders", "team-payments")})
    code, out, _ = run("alerts", "render", "--flows-from", answers.url + "/")
    assert (code, answers.asked[0][:2]) == (0, ("GET", "/v1/flows?limit=1000"))
    assert answers.asked[0][3]["Authorization"] == "Bearer mt_a_b"
    assert "- name: team-payments" in out
    assert f"{answers.url}/runbooks/lost?" in out


def test_no_flow_at_all_drops_no_owners_route(run, answers, orders, tmp_path):
    """A tracker without flows is the wrong one, most likely: what is there stays, unless that is wanted, or receivers
    say whom there is to tell."""
    answers.body = page()
    folder = tmp_path / "made"
    run("alerts", "render", orders, "--to", str(folder))
    before = (folder / "alertmanager.yaml").read_text()
    for words in (["render", "--to"], ["check", "--in"]):
        code, _, err = run("alerts", *words, str(folder), "--flows-from", answers.url)
        assert (code, f"{answers.url} has no flows" in err, "--allow-empty" in err) == (2, True, True)
    code, _, err = run("alerts", "render")
    assert (code, "no flows are given" in err) == (2, True)
    assert (folder / "alertmanager.yaml").read_text() == before
    (tmp_path / "receivers.yaml").write_text(RECEIVERS)
    assert run("alerts", "render", "--receivers", str(tmp_path / "receivers.yaml"))[0] == 0
    assert run("alerts", "render", "--allow-empty", "--to", str(folder), "--flows-from", answers.url)[0] == 0
    assert "team-payments" not in (folder / "alertmanager.yaml").read_text()


def test_an_owner_without_a_receiver_is_said(run, orders, tmp_path):
    """On stderr, for the files are made all the same."""
    (tmp_path / "receivers.yaml").write_text(RECEIVERS)
    code, out, err = run("alerts", "render", orders, "--receivers", str(tmp_path / "receivers.yaml"))
    assert (code, "no team-payments: operations gets its alerts" in err) == (0, True)
    assert "https://ops.example" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["render", "none.yaml"], "none.yaml: No such file"),
        (["render", "bad.yaml"], "bad.yaml:4: "),
        (["render", "a.yaml", "b.yaml"], "flow orders is in two files"),
        (["render", "a.yaml", "--flows-from", "http://127.0.0.1:9"], "not both"),
        (["render", "a.yaml", "--receivers", "secret.yaml"], "operations.slack_configs[0].api_url is a secret"),
        (["render", "a.yaml", "--to", "a.yaml"], "a.yaml: File exists"),
        (["apply", "--prometheus-rules", "r.yaml", "--reload", "prometheus:9090"], "write Prometheus' address"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_why(run, tmp_path, monkeypatch, words, said):
    """One line that names the file and the reason, and 2."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(SPEC.format("orders", name))
    (tmp_path / "bad.yaml").write_text(SPEC.format("orders", "x").replace("produce", "chew"))
    (tmp_path / "secret.yaml").write_text("receivers: {operations: {slack_configs: [{api_url: 'https://x'}]}}")
    code, _, err = run("alerts", *words)
    assert (code, said in err) == (2, True), err


def test_check_says_what_differs_and_what_to_do(run, orders, tmp_path):
    """0 while it is as it would be made; 1 and the difference when somebody changed the file or the flow."""
    folder = str(tmp_path / "made")
    assert run("alerts", "check", "--in", folder, orders)[0] == 1
    run("alerts", "render", orders, "--to", folder)
    code, out, _ = run("alerts", "check", "--in", folder, orders)
    assert (code, "as it would be made for 1 flows" in out) == (0, True)
    rules = tmp_path / "made" / "tracker.yaml"
    rules.write_text(rules.read_text().replace("for: 30s", "for: 300s", 1))
    code, out, _ = run("alerts", "check", "--in", folder, orders)
    assert (code, "-    for: 300s\n+    for: 30s" in out, f"tracker alerts render --to {folder}" in out) == (
        1,
        True,
        True,
    )
    code, out, _ = run("alerts", "check", "--in", folder, orders, "--json")
    assert (code, json.loads(out)["same"], json.loads(out)["differences"]["alertmanager.yaml"]) == (1, False, "")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_check_asks_the_tools(run, orders, tmp_path, monkeypatch):
    """What promtool refuses is said and ends with 1; where a tool is not installed, that is said."""
    folder = tmp_path / "made"
    run("alerts", "render", orders, "--to", str(folder))
    (folder / "tracker.yaml").write_text("groups: [{name: x, rules: [{alert: X, expr: '('}]}]")
    code, out, _ = run("alerts", "check", "--in", str(folder), orders)
    assert (code, "promtool refuses it" in out) == (1, True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    code, out, _ = run("alerts", "check", "--in", str(folder), orders)
    assert (code, "promtool is not installed" in out, "amtool is not installed" in out) == (1, True, True)


def test_apply_writes_nothing_when_prometheus_does_not_answer(run, tmp_path):
    """It is asked before the file is written."""
    rules = tmp_path / "rules.yaml"
    code, _, err = run("alerts", "apply", "--prometheus-rules", str(rules), "--reload", "http://127.0.0.1:9", "--yes")
    assert (code, rules.exists(), "no Prometheus answers" in err) == (3, False, True)


def test_apply_keeps_mode_and_link(run, answers, tmp_path):
    """A file that is a link, with a mode of its own, stays so; what is refused is put back."""
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("groups: []\n")
    real.chmod(0o640)
    link.symlink_to(real)
    answers.body = json.dumps({"data": {"groups": []}})
    code, _, err = run("alerts", "apply", "--prometheus-rules", str(link), "--reload", answers.url, "--yes")
    assert (code, "has not these rules" in err, link.is_symlink()) == (2, True, True)
    assert (real.stat().st_mode & 0o777, "MessagesLost" in real.read_text()) == (0o640, True)
    assert [asked[:2] for asked in answers.asked] == [
        ("GET", "/-/ready"),
        ("POST", "/-/reload"),
        ("GET", "/api/v1/rules"),
    ]
