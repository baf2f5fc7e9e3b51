"""Statements as kept: a chain per flow that cannot fork, be changed or be cut; and the key that signs them."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import Broken, Conflict, ControlError, Invalid, NotFound, Unavailable
from tracker.control.signing import Signer
from tracker.control.statements import Kept
from tracker.control.tables import Statement
from tracker.model import chain, seal

KEY = seal.Key.new()


def append(control: Control, flow: str = "orders", by: str = "ann", now: int = 100) -> Kept:
    """A statement that says little."""
    said = {"flow": flow, "key": KEY.id}
    sealed = lambda body: {"public_key": KEY.public, "signature": KEY.sign(body)}  # noqa: E731
    return control.statements.append(flow, said, (1, 2), now, by, sealed)


class TestStatements:
    def test_each_names_the_hash_of_the_one_before_it(self, control: Control) -> None:
        """Numbers without holes, from 1; a chain per flow; the seal is of all that it says."""
        first, second, other = append(control), append(control), append(control, "bills")
        assert [(s.number, s.previous) for s in (first, second)] == [(1, chain.ORIGIN), (2, first.hash)]
        assert (other.number, other.previous) == (1, chain.ORIGIN)
        document = json.loads(second.document)
        assert document["statement"] == {"flow": "orders", "key": KEY.id, "number": 2, "previous": first.hash}
        assert document["hash"] == second.hash == chain.link(first.hash, document["statement"])
        assert seal.signed(document["public_key"], document["statement"], document["signature"])

    def test_trackers_at_once_make_one_chain(self, control: Control) -> None:
        """Whoever comes second follows the first."""
        made = together(6, lambda number: append(control, by=f"t-{number}"))
        links = sorted((one.number, one.previous, one.hash) for one in made)
        assert [number for number, _, _ in links] == [1, 2, 3, 4, 5, 6]
        assert [previous for _, previous, _ in links[1:]] == [digest for _, _, digest in links[:-1]]

    def test_the_database_refuses_a_second_statement_after_the_same_one(self, control: Control) -> None:
        """Whatever a tracker with a mistake would try: the chain does not fork."""
        first = append(control)
        fork = Statement(flow="orders", number=9, previous=first.previous, hash="h", made_at=1, made_by="x", start=1,
                         end=2, document="{}")  # fmt: skip
        with pytest.raises(Conflict), control._database.write() as session:
            session.add(fork)

    @pytest.mark.parametrize("act", ["UPDATE statements SET made_by = 'bob'", "DELETE FROM statements"])
    def test_the_database_refuses_to_change_or_delete_one(self, control: Control, act: str) -> None:
        """A statement stays as it was handed out."""
        kept = append(control)
        with pytest.raises(ControlError, match="append-only"), control._database.write() as session:
            session.execute(text(act))
        assert control.statements.get("orders", 1) == kept

    def test_pages_newest_first(self, control: Control) -> None:
        """Cursor after cursor, of one flow, without the documents."""
        for _ in range(5):
            append(control)
        append(control, "bills")
        first = control.statements.page("orders", limit=3)
        rest = control.statements.page("orders", cursor=first.cursor, limit=3)
        assert [link.number for link in first.items + rest.items] == [5, 4, 3, 2, 1]
        assert (rest.cursor, control.statements.page("none").items) == ("", [])
        with pytest.raises(Invalid, match="cursor"):
            control.statements.page("orders", cursor="?")

    def test_one_that_is_not_there_is_named(self, control: Control) -> None:
        """With what lists them."""
        with pytest.raises(NotFound, match="no statement 7"):
            control.statements.get("orders", 7)


class TestKey:
    def test_it_is_made_when_first_needed_and_stays(self, tmp_path: Path) -> None:
        """The folder, too; the file is its owner's alone; what was there before is used."""
        path = tmp_path / "keys" / "key"
        made = Signer(path).key()
        assert (path.stat().st_mode & 0o777, path.parent.is_dir()) == (0o600, True)
        assert Signer(path).key().id == made.id
        assert [file.name for file in path.parent.iterdir()] == ["key"]

    def test_trackers_that_make_one_at_once_share_it(self, tmp_path: Path) -> None:
        """The first one's counts."""
        assert len(set(together(6, lambda _: Signer(tmp_path / "key").key().id))) == 1

    def test_a_key_that_everybody_can_read_is_refused(self, tmp_path: Path) -> None:
        """Signatures of a key that may have been copied prove nothing; the error says what to do."""
        path = tmp_path / "key"
        Signer(path).key()
        path.chmod(0o644)
        with pytest.raises(Broken, match=r"chmod 600"):
            Signer(path).key()

    def test_a_file_that_holds_no_key_is_refused_and_kept(self, tmp_path: Path) -> None:
        """Never overwritten: it may be somebody's; its text is not shown."""
        path = tmp_path / "key"
        path.write_text("swordfish")
        path.chmod(0o600)
        with pytest.raises(Broken, match="restore it") as told:
            Signer(path).key()
        assert "swordfish" not in str(told.value)
        assert path.read_text() == "swordfish"

    def test_a_folder_that_cannot_be_used_is_named(self, tmp_path: Path) -> None:
        """With the setting that says where."""
        (tmp_path / "file").touch()
        with pytest.raises(Unavailable, match="TRACKER_STATEMENT_KEY"):
            Signer(tmp_path / "file" / "key").key()

    def test_without_a_place_it_asks_for_one(self) -> None:
        """Beside PostgreSQL there is no folder of its own."""
        with pytest.raises(Invalid, match="TRACKER_STATEMENT_KEY"):
            Signer(None).key()

    def test_openssl_accepts_a_signature(self, tmp_path: Path) -> None:
        """What is signed are the bytes of plain canonical JSON: nobody needs our code to check it."""
        body = {"b": 1, "a": "ü"}
        (tmp_path / "key").write_text(KEY.public)
        (tmp_path / "body").write_text(chain.canonical(body), "ascii")
        (tmp_path / "seal").write_bytes(base64.b64decode(KEY.sign(body)))
        command = "openssl pkeyutl -verify -pubin -inkey key -rawin -in body -sigfile seal"
        try:
            done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=10)
        except FileNotFoundError:
            pytest.skip("no openssl on this machine")
        assert done.returncode == 0, done.stderr
