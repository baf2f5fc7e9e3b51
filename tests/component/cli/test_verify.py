"""`tracker reconcile --verify`: statements in files, checked by whoever has them."""

import json

import pytest

from tests.component.cli.test_commands import answers, run
from tests.unit.model.test_statement import KEY, ROWS, chained, document
from tracker.model import seal

__all__ = ["answers", "run"]

OTHER = seal.Key.new()


@pytest.fixture
def files(tmp_path):
    """Writes texts to files; gives their names."""

    def write(*texts):
        named = [tmp_path / f"s{n}.json" for n in range(len(texts))]
        for path, text in zip(named, texts, strict=True):
            path.write_text(text)
        return [str(path) for path in named]

    return write


@pytest.fixture
def key(tmp_path):
    """The public key that signed, in a file."""
    (tmp_path / "public.pem").write_text(KEY.public)
    return str(tmp_path / "public.pem")


def text(link):
    """A statement as its file."""
    found, _ = link
    return json.dumps({"statement": found.statement, "hash": found.hash, "public_key": found.public_key,
                       "signature": found.signature})  # fmt: skip


def test_a_chain_that_holds_ends_with_0(run, files, key):
    """In any order of files, without a service."""
    names = files(*map(text, chained({}, {}, {})[::-1]))
    code, out, _ = run("reconcile", "--verify", *names, "--key", key)
    assert (code, out.count("good "), "BAD" in out) == (0, 3, False)
    code, out, _ = run("reconcile", "--verify", *names, "--key", key, "--json")
    told = json.loads(out)
    assert (code, told["good"], [one["trusted"] for one in told["statements"]]) == (0, True, [True] * 3)


def test_without_a_key_it_says_that_nobody_vouches_for_the_signer(run, files):
    """The key inside the file shows only that one key signed all of it."""
    code, out, _ = run("reconcile", "--verify", *files(document()))
    assert (code, KEY.id in out, "--key" in out) == (0, True, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.replace('"pass": 7', '"pass": 8'), "it was changed"),
        (lambda t: t.replace('"status": "open"', '"status": "recovered"'), "digest over the exceptions"),
        (
            lambda t: t.replace(KEY.public.splitlines()[1], seal.Key.new().public.splitlines()[1]),
            "public key beside it",
        ),
        (lambda t: t.replace("tracker-statement/1", "tracker-statement/2"), "format"),
        (lambda t: t[:-9], "not a statement"),
    ],
)
def test_anything_off_ends_with_1_and_is_told(run, files, key, change, told):
    """File by file, in words."""
    name, good = files(change(document()), document())
    code, out, _ = run("reconcile", "--verify", name, "--key", key)
    assert (code, told in out, out.startswith(f"BAD  {name}")) == (1, True, True)
    assert run("reconcile", "--verify", good, "--key", key)[0] == 0
    assert json.loads(run("reconcile", "--verify", name, "--json")[1])["good"] is False


def test_another_signer_is_not_trusted(run, files, tmp_path):
    """A statement that somebody else has made and signed soundly ends with 1 where it is said whom to trust."""
    (tmp_path / "other.pem").write_text(OTHER.public)
    code, out, _ = run("reconcile", "--verify", *files(document()), "--key", str(tmp_path / "other.pem"))
    assert (code, "none of those given with --key" in out) == (1, True)


def test_a_missing_link_ends_with_1(run, files):
    """A statement that was left out is missed by its number."""
    first, _, third = chained({}, {}, {})
    code, out, _ = run("reconcile", "--verify", *files(text(first), text(third)))
    assert (code, "orders: statements 2 to 2 are missing" in out) == (1, True)


def test_all_exceptions_are_held_against_the_digest(run, files, tmp_path):
    """The list that goes with a statement must be whole."""
    [name] = files(document())
    listed = tmp_path / "all.ndjson"
    for rows, expected in ((ROWS, 0), (ROWS[:1], 1)):
        listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run("reconcile", "--verify", name, "--exceptions", str(listed))[0] == expected
    listed.write_text("[1]")
    code, out, _ = run("reconcile", "--verify", name, "--exceptions", str(listed))
    assert (code, "no NDJSON of exceptions" in out) == (1, True)


def test_files_and_keys_that_cannot_be_read_are_usage(run, files, tmp_path):
    """2, and the name of the file."""
    [name] = files(document())
    for arguments in ([], [str(tmp_path / "none")], [name, "--key", name], [name, "--key", str(tmp_path / "none")],
                      [name, name, "--exceptions", name]):  # fmt: skip
        assert run("reconcile", "--verify", *arguments)[0] == 2


def test_a_statement_is_written_and_told(run, answers, tmp_path):
    """`--out` writes what the service answered; the exit code is that of `reconcile`."""
    answers.body = document(settled=False)
    out_file = tmp_path / "s.json"
    code, out, _ = run("reconcile", "orders", "--from", "-2h", "--statement", "--out", str(out_file))
    method, path, body, _ = answers.asked[0]
    assert (method, path, json.loads(body)) == ("POST", "/v1/flows/orders/statements", {"from": "-2h", "to": "now"})
    assert json.loads(out_file.read_text()) == json.loads(answers.body)
    assert (code, "of 9 produced and 1 orphans, 8 delivered" in out, "not settled" in out) == (1, True, True)
    assert run("reconcile", "--verify", str(out_file))[0] == 0


def test_a_hop_is_abandoned_after_a_look(run, answers):
    """First it is counted; --dry-run ends there; else the span is fixed, and asked for until nothing is left."""
    counted = {"flow": "orders", "hop": "eu", "since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z",
               "dry_run": True, "messages": 3, "copies": 3, "verdicts": {"delivered": 3}, "next": None}  # fmt: skip
    answers.body = json.dumps(counted)
    asked = ("hops", "abandon", "eu", "--flow", "orders", "--since", "-1h")
    code, out, _ = run(*asked, "--dry-run")
    assert (code, len(answers.asked), "would be written off" in out) == (0, 1, True)
    code, out, _ = run(*asked, "--reason", "fire", "--json")
    sent = [json.loads(body) for _, _, body, _ in answers.asked[1:]]
    assert [one.get("dry_run", False) for one in sent] == [True, False]
    assert (sent[1]["since"], sent[1]["until"], sent[1]["reason"]) == (counted["since"], counted["until"], "fire")
    assert (code, json.loads(out)["copies"]) == (0, 3)


def test_hops_still_lists_coverage(run, answers):
    """The command that was there before its own commands came."""
    answers.body = json.dumps({"items": [], "next": None})
    code, out, _ = run("hops", "--flow", "orders")
    assert (code, "no collector" in out, answers.asked[0][1].startswith("/v1/coverage?")) == (0, True, True)
