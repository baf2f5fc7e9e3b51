"""`tracker audit`: list, export and verify."""

import json

import pytest

from tests.component.cli.test_commands import answers, run
from tests.unit.model.test_audited import KEY, entries, exported
from tracker.control import Control
from tracker.control.audit import Audit
from tracker.control.errors import Unavailable

__all__ = ["answers", "run"]


@pytest.fixture
def file(tmp_path):
    """An export of six entries."""
    path = tmp_path / "audit.ndjson"
    path.write_text("".join(line + "\n" for line in exported(entries())))
    return path


def test_list_asks_for_what_is_given(run, answers):
    """Filters go to the service; nothing found is said."""
    answers.body = json.dumps({"items": [], "next": None})
    code, out, _ = run("audit", "list", "--subject", "replay/r-1", "--who", "ann", "--from", "-7d")
    assert (code, "no entry matches" in out) == (0, True)
    path = answers.asked[0][1]
    assert "subject=replay%2Fr-1" in path
    assert "who=ann" in path
    assert "from=-7d" in path


def test_an_export_is_written_as_it_came(run, answers, tmp_path):
    """Byte for byte; and verified from there, or straight from the service."""
    answers.body = "".join(line + "\n" for line in exported(entries()))
    file = tmp_path / "out.ndjson"
    code, out, _ = run("audit", "export", str(file))
    assert (code, file.read_text(), "6 entries" in out) == (0, answers.body, True)
    assert run("audit", "verify", str(file))[:2] == (0, f"good {file}: 6 entries, signed with the key {KEY.id}\n")
    assert run("audit", "verify")[0] == 0
    assert run("audit", "export", str(tmp_path / "none" / "x"))[0] == 2


def test_verify_names_the_first_broken_entry(run, file):
    """And ends with 1, as for a statement that is off."""
    file.write_text(file.read_text().replace('{\\"n\\":3}', '{\\"n\\":4}'))
    code, out, _ = run("audit", "verify", str(file))
    assert (code, out) == (1, f"BAD  {file}: entry 3: it is not as it was written\n")
    said = json.loads(run("audit", "verify", str(file), "--json")[1])
    assert (said["good"], said["broken"], said["entries"]) == (False, 3, 2)


def test_verify_with_an_earlier_export_and_a_key(run, file, tmp_path):
    """A log that lost its end, though signed; a key that is not the one to trust."""
    short = tmp_path / "short.ndjson"
    short.write_text("".join(line + "\n" for line in exported(entries(4))))
    assert run("audit", "verify", str(short))[0] == 0
    code, out, _ = run("audit", "verify", str(short), "--since", str(file))
    assert (code, "entry 6, the head that was kept, is not there" in out) == (1, True)
    assert run("audit", "verify", str(file), "--since", str(short))[0] == 0
    key = tmp_path / "key.pem"
    key.write_text(KEY.public)
    assert run("audit", "verify", str(file), "--key", str(key))[0] == 0
    from tracker.model.seal import Key

    key.write_text(Key.new().public)
    assert run("audit", "verify", str(file), "--key", str(key))[0] == 1
    assert run("audit", "verify", str(tmp_path / "none"))[0] == 2
    key.write_text("nothing")
    assert run("audit", "verify", str(file), "--since", str(key))[0] == 2


def test_a_token_and_its_entry_are_kept_together_or_not_at_all(run, monkeypatch, tmp_path):
    """The database is full in between: nobody has a token of which the audit log knows nothing."""
    url = f"sqlite:///{tmp_path}/control.db"
    monkeypatch.setenv("TRACKER_CONTROL", url)

    def full(*_: object, **__: object) -> None:
        raise Unavailable("no space left")

    made = json.loads(run("token", "create", "ann", "--scope", "replay", "--json")[1])
    with monkeypatch.context() as patch:
        patch.setattr(Audit, "append", full)
        assert run("token", "create", "bob", "--scope", "replay")[0] != 0
        assert run("token", "revoke", made["id"])[0] != 0
    with Control.open(url) as control:
        assert [(one.name, one.revoked_at) for one in control.tokens.list()] == [("ann", None)]
