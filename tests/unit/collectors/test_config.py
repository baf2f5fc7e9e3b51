from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from collectors import registry
from collectors.config import read_config
from collectors.errors import CollectorError, ConfigInvalid, MissingExtra
from collectors.main import app
from collectors.memory import MemoryCollector
from collectors.spool import Spool

GOOD = """\
tracker:
  url: http://127.0.0.1:8000
  token: ${TRACKER_TOKEN}
spool: /var/lib/collectors
heartbeat: 500ms
collectors:
  - name: orders
    kind: memory
    topics: [{topic: orders, flow: orders, hop: log}]
"""


def config(tmp_path, text):
    """The file, with a token in the environment."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return read_config(path, {"TRACKER_TOKEN": "secret", "HOST": "h"})


def test_a_configuration_is_read(tmp_path):
    """Tracker, spool, heartbeat and collectors; what the kind has to check is passed on."""
    found = config(tmp_path, GOOD)
    assert found.config.tracker.secret() == "secret"
    assert found.config.heartbeat == 0.5
    (collector,) = found.config.collectors
    assert (collector.name, collector.kind) == ("orders", "memory")
    assert collector.settings == {"topics": [{"topic": "orders", "flow": "orders", "hop": "log"}]}
    assert found.lines == {"orders": 7}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("heartbeat: 500ms", "hartbeat: 1", 5, "unknown key `hartbeat`"),
        ("  url: http://127.0.0.1:8000", "  url: http://127.0.0.1:8000\n  port: 1", 3, "unknown key `tracker.port`"),
        ("http://127.0.0.1:8000", "localhost", 2, "tracker.url"),
        ("heartbeat: 500ms", "heartbeat: soon", 5, "no duration"),
        ("    kind: memory", "", 7, "kind"),
        ("name: orders", "name: a/b", 7, "name"),
        ("TRACKER_TOKEN", "NOT_SET", 3, "NOT_SET is not set"),
        ("spool: /var/lib", "spool: /var/${HOST}", 4, "secrets only"),
        ("spool:", "heartbeat: 1s\nspool:", 6, "key 'heartbeat' stands here twice"),
        ("hop: log}]", "hop: log}]\n  - {name: orders, kind: memory}", 6, "must differ"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, old, new, line, said):
    """File, line, key and reason."""
    with pytest.raises(ConfigInvalid) as error:
        config(tmp_path, GOOD.replace(old, new, 1))
    assert str(error.value).startswith(f"{tmp_path}/config.yaml:{line}: "), error.value
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "a: \x00", "7"])
def test_what_is_no_configuration(tmp_path, text):
    """Empty, a list, broken YAML: an error that names the file."""
    with pytest.raises(ConfigInvalid, match=r"config\.yaml"):
        config(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    """No traceback for a wrong path."""
    with pytest.raises(ConfigInvalid, match=r"nowhere\.yaml: No such file"):
        read_config(tmp_path / "nowhere.yaml", {})


def test_a_token_may_stand_in_a_file(tmp_path):
    """The file's content without its line end; not together with `token`; a missing file is named."""
    (tmp_path / "token").write_text("from-file\n")
    token = f"token_file: {tmp_path}/token"
    assert config(tmp_path, GOOD.replace("token: ${TRACKER_TOKEN}", token)).config.tracker.secret() == "from-file"
    with pytest.raises(ConfigInvalid, match="not both"):
        config(tmp_path, GOOD.replace("  token:", f"  {token}\n  token:"))
    missing = config(tmp_path, GOOD.replace("token: ${TRACKER_TOKEN}", "token_file: /nowhere/token"))
    with pytest.raises(ConfigInvalid, match="/nowhere/token"):
        missing.config.tracker.secret()


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", "schlüssel".encode(), b"\xff\xfe"])
def test_a_file_that_holds_no_token(tmp_path, content):
    """Empty, as while somebody writes it, or something else: the error names the file and tells nothing of it."""
    (tmp_path / "token").write_bytes(content)
    found = config(tmp_path, GOOD.replace("token: ${TRACKER_TOKEN}", f"token_file: {tmp_path}/token"))
    with pytest.raises(ConfigInvalid, match=f"{tmp_path}/token: (this is no token|the file is empty)$"):
        found.config.tracker.secret()


@pytest.mark.parametrize("written", ['"s3cret', "*s3cret", "{s3cret", "s3: cr: et"])
def test_a_file_that_cannot_be_read_tells_no_secret(tmp_path, written):
    """A password that is no YAML as it stands: the error names the line and does not quote it."""
    with pytest.raises(ConfigInvalid, match=r"config\.yaml:\d+: not readable as YAML: ") as refused:
        config(tmp_path, GOOD.replace("token: ${TRACKER_TOKEN}", f"token: {written}"))
    assert "s3" not in str(refused.value)


def test_a_kind_is_found_by_name():
    """The factory of a kind makes a collector from a name and settings."""
    made = registry.factory("memory")("one", {"topics": [{"topic": "t", "flow": "f", "hop": "h"}]})
    assert isinstance(made, MemoryCollector)


def test_an_unknown_kind_lists_the_known_ones():
    """Nobody has to look them up."""
    with pytest.raises(ConfigInvalid, match="unknown kind 'kafak'; there are activemq, kafka"):
        registry.factory("kafak")


def test_a_missing_library_names_the_extra(monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    for name in [name for name in sys.modules if name.startswith("collectors.kafka.tail")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"pip install message-tracker\[kafka\]"):
        registry.factory("kafka")


def test_every_kind_has_a_factory():
    """No line of the registry points nowhere."""
    for kind in registry.KINDS:
        assert callable(registry.factory(kind))


def test_check_says_what_is_wrong_and_ends(tmp_path):
    """Exit code 2 and one line that names file, line, collector and key; 0 when all is well."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD.replace("token: ${TRACKER_TOKEN}", "token: x").replace("topics:", "topix:"))
    done = CliRunner().invoke(app, ["run", "--check", str(path)])
    assert done.exit_code == 2
    assert f"{path}:7: collector orders: " in done.output
    assert "topix" in done.output
    path.write_text(GOOD.replace("token: ${TRACKER_TOKEN}", "token: x"))
    assert CliRunner().invoke(app, ["run", "--check", str(path)]).exit_code == 0


def test_a_held_spool_is_said_at_the_start(tmp_path):
    """A second process on the spool ends with 2 and names the folder and its holder."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD.replace("/var/lib/collectors", str(tmp_path)))

    held = Spool(tmp_path / "orders")
    done = CliRunner().invoke(app, ["run", str(path)], env={"TRACKER_TOKEN": "x"})
    held.close()
    assert done.exit_code == 2
    assert str(tmp_path / "orders") in done.output
    assert issubclass(ConfigInvalid, CollectorError)
