"""`tracker dashboards`, by the real client library, against what Grafana's API is documented to take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from tests.component.cli import grafana_contract as contract
from tests.component.cli.grafana_http import TOKEN, Grafana, grafana
from tests.servers.ports import free_port
from tracker.cli.errors import CommandError
from tracker.cli.main import app
from tracker.dashboards.generate import DASHBOARDS

READ = "mt_read_token"
ADDRESSES = ("--prometheus", "http://prometheus:9090", "--tracker", "https://tracker.example:8443/behind")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grafana]:
    """A Grafana with nothing in it, and tokens in the environment."""
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    monkeypatch.setenv("GRAFANA_TRACKER_TOKEN", READ)
    with grafana() as state:
        yield state


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["dashboards", *arguments])


def _push(there: Grafana, *options: str) -> list[dict[str, Any]]:
    there.requests.clear()
    ran = _run("push", "--grafana", there.url, *ADDRESSES, *options, "--json")
    assert ran.exit_code == 0, ran.output + repr(ran.exception)
    assert READ not in ran.output
    assert TOKEN not in ran.output
    steps: list[dict[str, Any]] = json.loads(ran.stdout)["steps"]
    return steps


def test_the_contract_refuses_what_grafana_does_not_have() -> None:
    """A field that is misspelt, a value of another type, an answer without what is promised."""
    data_source = {"name": "n", "type": "prometheus", "access": "proxy", "jsonData": {"any": 1}}
    assert contract.body("POST /datasources", data_source) == data_source
    for wrong in ({"folderUID": "tracker"}, {"folderUid": 7}, {"overwrite": "yes"}):
        with pytest.raises(ValidationError):
            contract.body("POST /dashboards/db", {"dashboard": {}} | wrong)
    with pytest.raises(ValidationError, match="datasource"):
        contract.answer("POST /datasources", 200, {"id": 1, "message": "saved", "name": "n"})
    with pytest.raises(KeyError):
        contract.answer("GET /folders/{folder_uid}", 418, {"message": "?"})


def test_a_dry_run_changes_nothing(there: Grafana) -> None:
    """Without --yes it only asks, and says what would be made."""
    steps = _push(there)
    assert there.writes() == []
    assert {step["does"] for step in steps} == {"create"}
    assert [step["kind"] for step in steps] == ["folder"] + ["data source"] * 2 + ["dashboard"] * len(DASHBOARDS)
    told = _run("push", "--grafana", there.url, *ADDRESSES).output
    assert "Tracker: overview" in told
    assert "--yes does it" in told


def test_everything_is_put_there_and_a_second_time_nothing_changes(there: Grafana) -> None:
    """Folder, data sources, dashboards in that order, with bodies as documented; then all is found as it should be."""
    _push(there, "--yes")
    assert there.writes() == [
        ("POST", "/grafana/api/folders"),
        *[("POST", "/grafana/api/datasources")] * 2,
        *[("POST", "/grafana/api/dashboards/db")] * len(DASHBOARDS),
    ]
    assert {uid: board["meta"]["folderUid"] for uid, board in there.boards.items()} == {
        board.uid: "tracker" for board in DASHBOARDS.values()
    }
    views, prometheus = there.sources["tracker-views"], there.sources["tracker-prometheus"]
    assert views["jsonData"] == {
        "host": "tracker.example", "port": 8443, "path": "behind/clickhouse", "protocol": "http", "secure": True,
        "username": "grafana", "defaultDatabase": "tracker_views",
    }  # fmt: skip
    assert prometheus["url"] == "http://prometheus:9090"
    assert there.secrets == {"tracker-views": {"password": READ}, "tracker-prometheus": {}}
    steps = _push(there, "--yes")
    assert {step["does"] for step in steps} == {"nothing"}
    assert there.writes() == []


def test_only_what_differs_is_mended(there: Grafana) -> None:
    """A dashboard that somebody edited and a data source that leads elsewhere are put right; what Grafana or people
    added to the data source stays, and the secret is not sent again unless that is asked for."""
    _push(there, "--yes")
    there.boards["tracker-flow"]["dashboard"]["panels"][1]["title"] = "mine"
    views = there.sources["tracker-views"]
    views["jsonData"] |= {"host": "elsewhere", "dialTimeout": "5"}
    views["isDefault"] = True
    changed = [step["name"] for step in _push(there, "--yes") if step["does"] == "update"]
    assert changed == ["Tracker", "Tracker: flow"]
    put = next(body for method, _, body in there.requests if method == "PUT")
    assert "secureJsonData" not in put
    assert (put["jsonData"]["host"], put["jsonData"]["dialTimeout"], put["isDefault"]) == ("tracker.example", "5", True)
    again = [step["name"] for step in _push(there, "--yes", "--token-again") if step["does"] == "update"]
    assert again == ["Tracker"]
    assert next(body for method, _, body in there.requests if method == "PUT")["secureJsonData"] == {"password": READ}


def test_a_provisioned_data_source_is_left_alone(there: Grafana) -> None:
    """Grafana refuses changes to it: its file is where to change it."""
    _push(there, "--yes")
    there.sources["tracker-views"] |= {"readOnly": True, "jsonData": {"host": "elsewhere"}}
    assert {step["does"] for step in _push(there, "--yes")} == {"nothing"}


def test_data_sources_are_made_only_where_asked_for(there: Grafana) -> None:
    """Who has his own picks them in the dashboards."""
    ran = _run("push", "--grafana", there.url, "--yes")
    assert ran.exit_code == 0
    assert there.sources == {}
    assert len(there.boards) == len(DASHBOARDS)


def test_links_lead_to_where_people_reach_the_tracker(there: Grafana) -> None:
    """The address is a variable of each dashboard."""
    _push(there, "--yes", "--console", "https://tracker.example/")
    for board in there.boards.values():
        [tracker] = [one for one in board["dashboard"]["templating"]["list"] if one["name"] == "tracker"]
        assert tracker["query"] == tracker["current"]["value"] == "https://tracker.example"


def test_tokens_come_from_files_too(there: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As secrets are mounted."""
    monkeypatch.delenv("GRAFANA_TOKEN")
    monkeypatch.delenv("GRAFANA_TRACKER_TOKEN")
    (tmp_path / "grafana").write_text(TOKEN + "\n")
    (tmp_path / "read").write_text("mt_other\n")
    files = ("--token-file", str(tmp_path / "grafana"), "--read-token-file", str(tmp_path / "read"))
    _push(there, "--yes", *files)
    assert there.secrets["tracker-views"] == {"password": "mt_other"}


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, 2, "does not know this token"),
        (403, 2, "may not do that"),
        (400, 2, "Cannot save provisioned dashboard"),
        (500, 3, "does not answer as it should"),
    ],
)
def test_a_refusal_is_told_in_words(there: Grafana, status: int, code: int, told: str) -> None:
    """Whose fault it is, by the exit status; no traceback, no token."""
    there.refusing = status, {"message": "Cannot save provisioned dashboard"}
    error = _fails("push", "--grafana", there.url, "--yes")
    assert error.code == code
    assert told in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    ("address", "code", "told"),
    [
        ("http://127.0.0.1:{port}", 3, "nobody answers"),
        ("grafana:3000", 2, "write http://host:port"),
        ("http://admin:secret@127.0.0.1:1", 2, "without user"),
    ],
)
def test_an_address_that_is_wrong_is_told(there: Grafana, address: str, code: int, told: str) -> None:
    """Before, or when, it is asked."""
    error = _fails("push", "--grafana", address.format(port=free_port()))
    assert (error.code, told in str(error)) == (code, True)


def test_without_a_token_it_says_which(there: Grafana, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And a file that cannot be read is named."""
    assert "nowhere" in str(_fails("push", "--grafana", there.url, "--token-file", str(tmp_path / "nowhere")))
    monkeypatch.delenv("GRAFANA_TOKEN")
    assert "GRAFANA_TOKEN" in str(_fails("push", "--grafana", there.url))


def test_files_are_rendered_and_checked(tmp_path: Path) -> None:
    """`check` ends with 1 while a file is missing or edited, `render` writes what is."""
    assert _run("check", str(tmp_path)).exit_code == 1
    written = json.loads(_run("render", str(tmp_path), "--json").stdout)["written"]
    assert written == [str(tmp_path / f"{name}.json") for name in DASHBOARDS]
    assert _run("check", str(tmp_path)).exit_code == 0
    (tmp_path / "flow.json").write_text("{}")
    checked = _run("check", str(tmp_path))
    assert checked.exit_code == 1
    assert "flow.json" in checked.stdout
    assert _run("check").exit_code == 0, "those of this checkout"


def _fails(*arguments: str) -> CommandError:
    error = _run(*arguments).exception
    assert isinstance(error, CommandError), error
    return error
