"""Archives looked after: listed, verified, pruned, restored; by the command that operators use."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from collectors.main import app
from tests.unit.collectors.archiving import LOG, OTHER, archive, files, keep, key_file, place, record, records
from tracker.model.units import rfc3339

WATCHED = 10_000


def run(folder, command, *more, config=False):
    """What the command printed as JSON, and its exit code."""
    known = place(folder)
    at = [str(config)] if config else ["--url", known["url"], "--key", known["key"]]
    done = CliRunner().invoke(app, ["archive", command, *at, *more, "--json"])
    return json.loads(done.stdout) if done.stdout else done.stderr, done.exit_code


def restored(folder, until, flow="orders"):
    """What a restore told, its rows by hop, and its exit code."""
    to = folder / f"restored-{until}"
    told, code = run(folder, "restore", "--flow", flow, "--until", rfc3339(until), "--to", str(to))
    return told, {path.stem: pq.read_table(path).to_pylist() for path in to.glob("*.parquet")}, code


def test_a_restore_is_what_was_observed_until_then(tmp_path):
    """Of each hop, no record after it, none missing before it, each once, in the order of its offsets."""
    one = archive(tmp_path)
    one.start()
    one.vouch([LOG], 1000)
    for batch in (range(10), range(5, 20), range(20, 30)):  # the second comes again, as after a crash
        raws, seen = records(batch)
        more = records(batch, hop="queue", partition="", offset=None)
        assert one.wait(one.add(raws + more[0], seen + more[1]), 20)
        one.vouch([LOG, LOG.__class__("orders", "queue", "persist", "q")], 1000 if batch.start == 0 else WATCHED)
    one.close()
    told, found, code = restored(tmp_path, 1024)
    assert sorted(row["message_id"] for row in found["queue"]) == sorted(f"m-{n}" for n in range(25))
    assert [row["offset"] for row in found["log"]] == list(range(25))
    assert found["log"][3]["value"] == b"value 3"
    hops = {hop["hop"]: hop for hop in told["hops"]}
    assert (hops["log"]["records"], hops["log"]["twice"], hops["log"]["incomplete"]) == (25, 5, [])
    assert hops["log"]["partitions"] == [
        {"partition": "t/0", "records": 25, "first_offset": 0, "last_offset": 24, "in_order": True}
    ]
    assert (told["complete"], code) == (True, 0)
    assert json.loads((tmp_path / "restored-1024" / "restored.json").read_text()) == told


def test_a_restore_says_what_is_not_complete(tmp_path):
    """A segment that is missing, one that is damaged, and time in which nobody watched."""
    keep(tmp_path, [range(5), range(5, 10), range(10, 15), range(15, 20)], reached=1000)
    second, third = files(tmp_path)[1:3]
    second.unlink()
    third.write_bytes(third.read_bytes()[:-5])
    told, found, code = restored(tmp_path, 1017)
    assert [row["offset"] for row in found["log"]] == [0, 1, 2, 3, 4, 15, 16, 17]
    gaps = {gap["cause"]: (gap["since"], gap["until"]) for gap in told["hops"][0]["incomplete"]}
    assert gaps["segments missing: 2"] == (1004, 1010)
    assert gaps["not watched"] == (1000, 1017)
    assert any(third.name in cause for cause in gaps)
    assert (told["complete"], code) == (False, 1)
    assert restored(tmp_path, 1003)[1]["log"][-1]["offset"] == 3


def test_two_different_messages_at_one_offset_are_both_there(tmp_path):
    """A topic that was made again counts from 0 again."""
    one = archive(tmp_path)
    one.start()
    assert one.wait(one.add(*records([0, 1])), 20)
    again = record(7, offset=0, at=1005)
    assert one.wait(one.add([again[0]], [again[1]]), 20)
    one.close()
    told, found, _ = restored(tmp_path, 2000)
    assert [(row["offset"], row["message_id"]) for row in found["log"]] == [(0, "m-0"), (1, "m-1"), (0, "m-7")]
    assert told["hops"][0]["partitions"][0]["in_order"] is False


def test_a_restore_never_writes_over_anything(tmp_path):
    """The folder has to be empty; a flow that is not there is told."""
    keep(tmp_path, [[1]])
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    told, code = run(tmp_path, "restore", "--flow", "orders", "--to", str(tmp_path / "there"))
    assert (code, "not empty" in told) == (2, True)
    told, code = run(tmp_path, "restore", "--flow", "payments", "--to", str(tmp_path / "new"))
    assert (code, "holds nothing" in told) == (2, True)


def test_verify_opens_everything(tmp_path):
    """And names each file that cannot be used; what it may not read it does not call whole."""
    keep(tmp_path, [range(10), range(10, 20), range(20, 30)])
    assert run(tmp_path, "verify") == ({"segments": 3, "records": 30, "wrong": []}, 0)
    one, two, _ = files(tmp_path)
    kept = one.read_bytes()
    one.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    files(tmp_path, ".index")[1].write_bytes(files(tmp_path, ".index")[2].read_bytes())
    told, code = run(tmp_path, "verify")
    assert (told["segments"], code) == (1, 1)
    assert [line.partition(":")[0].rpartition("/")[2] for line in told["wrong"]] == [
        one.name, two.name.replace(".segment", ".index"),
    ]  # fmt: skip
    key_file(tmp_path, OTHER)
    told, code = run(tmp_path, "verify")
    assert (told["segments"], len(told["wrong"])) == (0, 4)


def test_list_needs_no_key(tmp_path):
    """Names tell counts and spans; that what it is complete for cannot be told is said."""
    keep(tmp_path, [range(10), range(10, 20)])
    (one,), code = run(tmp_path, "list")
    told = {
        "flow": "orders",
        "hop": "log",
        "collector": "one",
        "segments": 2,
        "records": 20,
        "first": 1000,
        "last": 1019,
    }
    assert one.items() >= {**told, "gaps": []}.items()
    assert code == 0
    (tmp_path / "key").unlink()
    done = CliRunner().invoke(app, ["archive", "list", "--url", place(tmp_path)["url"]])
    assert done.exit_code == 1
    assert "there is no key of flow 'orders'" in done.stdout
    assert "20" in done.stdout


def test_prune_says_first_what_it_would_delete(tmp_path):
    """Only with --yes it does; whole segments, of the flow and hop that are named."""
    keep(tmp_path, [range(10), range(10, 20)])
    told, _ = run(tmp_path, "prune", "--before", rfc3339(1015))
    assert (told["deleted"], len(told["segments"]), len(files(tmp_path))) == (False, 1, 2)
    for more in (("--flow", "other"), ("--flow", "orders", "--hop", "other")):
        assert run(tmp_path, "prune", "--before", rfc3339(1015), *more, "--yes")[0]["segments"] == []
    told, _ = run(tmp_path, "prune", "--before", rfc3339(1015), "--flow", "orders", "--hop", "log", "--yes")
    assert (told["deleted"], len(files(tmp_path)), len(files(tmp_path, ".index"))) == (True, 1, 1)
    assert run(tmp_path, "verify")[1] == 0
    assert run(tmp_path, "list")[1] == 0
    assert run(tmp_path, "prune")[1] == 2


def test_an_archive_is_named_by_a_configuration(tmp_path):
    """Each of its archives once, with `keep` as it stands there."""
    keep(tmp_path, [range(10)])
    archived = f"{{url: 'file://{tmp_path}/archive', key: 'file:{tmp_path}/key', flows: [orders], keep: 1h}}"
    collectors = "".join(
        f"- {{name: {name}, kind: memory, topics: [{{topic: t, flow: orders, hop: log}}], archive: {archived}}}\n"
        for name in ("one", "two")
    )
    path = tmp_path / "config.yaml"
    path.write_text(f"tracker: {{url: 'http://127.0.0.1:1'}}\nspool: {tmp_path}/spool\ncollectors:\n{collectors}")
    assert len(run(tmp_path, "list", config=path)[0]) == 1
    assert run(tmp_path, "verify", config=path)[0]["records"] == 10
    keep(tmp_path, [range(10)], name="gone")
    assert len(run(tmp_path, "prune", config=path)[0]["segments"]) == 1
    assert len(run(tmp_path, "prune", "--before", "now", config=path)[0]["segments"]) == 2
    assert len(run(tmp_path, "prune", "--yes", config=path)[0]["segments"]) == 1
    assert len(files(tmp_path)) == 1
    assert [each["records"] for each in run(tmp_path, "list", config=path)[0]] == [10, 0]


@pytest.mark.parametrize("command", ["list", "verify", "prune"])
def test_what_is_shown_to_people(tmp_path, command):
    """Lines, not JSON, with the same facts."""
    keep(tmp_path, [range(10)])
    known = place(tmp_path)
    more = ["--before", "now"] if command == "prune" else []
    done = CliRunner().invoke(app, ["archive", command, "--url", known["url"], "--key", known["key"], *more])
    assert done.exit_code == 0, done.stderr
    assert {"list": "10", "verify": "1 segments with 10 records are whole", "prune": "1 segments would be deleted"}[
        command
    ] in done.stdout


def test_wrong_questions(tmp_path):
    """Both ways to name an archive, or none; a store that cannot be reached."""
    assert CliRunner().invoke(app, ["archive", "list"]).exit_code == 2
    assert CliRunner().invoke(app, ["archive", "list", "x.yaml", "--url", "file:///x"]).exit_code == 2
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["archive", "list", "--url", f"file://{tmp_path}/file/below"])
    assert done.exit_code in (0, 3)
