"""The audit log by API: who may read it, pages and filters, and an export that others verify."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.component.api.conftest import NOW
from tests.docs.pages import ROOT, blocks
from tracker.control.signing import Signer
from tracker.model import audited
from tracker.model.seal import key_id, signed

PAGE = ROOT / "docs/audit.md"


@pytest.fixture
def written(control):
    """Seven acts by two people, a second apart; one detail has all that JSON can hold."""
    detail = {"n": 0.1, "big": 2**60, "text": 'ü"\n', "list": [None, True, {}]}
    for n in range(7):
        who = "bob" if n % 3 else "ann"
        control.audit.append(NOW + n * 1_000_000, who, "approve", f"replay/r-{n % 2}", "why", detail)
    return control


@pytest.fixture
def client(client_of, tmp_path, written):
    """A client of a service that has a place for its key."""
    return client_of(insecure=True, signer=Signer(tmp_path / "key.pem"))


def test_it_takes_a_scope_of_its_own(client_of, control, tmp_path):
    """`read` lies in dashboards, and the log names people; `audit` in turn reads nothing else."""
    client = client_of(signer=Signer(tmp_path / "key.pem"))

    def answer(scope, path):
        secret = control.tokens.create(f"t-{scope}", [scope], now=0, by="test")[1]
        return client.get(path, headers={"Authorization": f"Bearer {secret}"}).status_code

    for scope, status in (("ingest", 403), ("read", 403), ("replay", 403), ("audit", 200), ("admin", 200)):
        assert {answer(scope, path) for path in ("/v1/audit", "/v1/audit/export")} == {status}, scope
    assert answer("audit", "/v1/incidents") == 403


def test_pages_and_filters(client):
    """Oldest first; by subject, by who, by time; cursors go on where a page ended."""

    def numbers(**asked):
        return [one["number"] for one in client.get("/v1/audit", params=asked).json()["items"]]

    assert numbers(subject="replay/r-1") == [2, 4, 6]
    assert numbers(who="ann") == [1, 4, 7]
    assert numbers(**{"from": str(NOW + 2_000_000), "to": str(NOW + 4_000_000)}) == [3, 4]
    assert numbers(who="ann", subject="replay/r-1") == [4]
    first = client.get("/v1/audit", params={"limit": 5}).json()
    rest = client.get("/v1/audit", params={"limit": 5, "cursor": first["next"]}).json()
    assert [one["number"] for one in first["items"] + rest["items"]] == list(range(1, 8))
    assert (rest["next"], first["items"][0]["detail"]["big"]) == (None, 2**60)
    assert client.get("/v1/audit", params={"from": "yesterday"}).status_code == 422
    assert client.get("/v1/audit", params={"cursor": "none of ours"}).status_code == 422


def test_an_export_is_whole_and_signed(client, tmp_path):
    """Also what is appended while it is being read does not break it: the head is taken first."""
    lines = client.get("/v1/audit/export").text.splitlines()
    found = audited.check(lines, signed, key_id)
    assert (found.problems, found.entries) == ([], 7)
    assert json.loads(lines[-1])["public_key"] == client.get("/v1/statements/key").json()["public_key"]


def test_an_empty_log_can_be_exported(client_of, tmp_path):
    """Its head says so."""
    text = client_of(insecure=True, signer=Signer(tmp_path / "key.pem")).get("/v1/audit/export").text
    assert audited.check(text.splitlines(), signed, key_id).problems == []


def test_without_a_place_for_a_key_it_can_still_be_read(client_of, written):
    """As where the control database is a PostgreSQL; what to set is said."""
    client = client_of(insecure=True)
    assert client.get("/v1/audit").status_code == 200
    answer = client.get("/v1/audit/export")
    assert (answer.status_code, "TRACKER_STATEMENT_KEY" in answer.json()["detail"]) == (422, True)


def run(folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
    """The program on the page."""
    [program] = blocks(PAGE, "python")
    return subprocess.run([sys.executable, "-I", "-c", program, str(file)], cwd=folder, capture_output=True, text=True)


def test_the_page_tells_how_others_verify_it(client, tmp_path):
    """With Python's own library and openssl; the first broken entry is named."""
    file = tmp_path / "audit.ndjson"
    file.write_text(client.get("/v1/audit/export").text)
    done = run(tmp_path, file)
    assert (done.returncode, done.stdout) == (0, "7 entries\n"), done.stderr
    if shutil.which("openssl"):
        [commands] = [block for block in blocks(PAGE, "sh") if "openssl" in block]
        said = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, text=True)
        assert "Signature Verified Successfully" in said.stdout, said.stderr
    lines = file.read_text().splitlines(keepends=True)
    for broken, number in (
        ([*lines[:3], lines[3].replace("ann", "eve"), *lines[4:]], 4),
        ([*lines[:2], *lines[3:]], 3),
        ([lines[1], lines[0], *lines[2:]], 1),
        (lines[:5], 6),
        ([*lines[:5], lines[-1]], 6),
    ):
        file.write_text("".join(broken))
        told = run(tmp_path, file)
        assert told.returncode == 1
        assert told.stderr.startswith(f"entry {number} is broken")
