"""An archive as a source of copies."""

from __future__ import annotations

import pytest

from collectors.archive.source import source
from collectors.base import Content
from collectors.errors import ConfigInvalid, Unavailable, Unreadable
from tests.unit.collectors.archiving import OTHER, archive, files, keep, key_file, place, record, records
from tracker.model.carry import Copy, Locator, Missing


@pytest.fixture
def reader(tmp_path):
    """Sources of the archive in this folder."""
    return lambda **more: source(place(tmp_path, hop="log", **more))


def test_every_message_is_found_and_fetched(tmp_path, reader):
    """Each once, with key, value and headers as they were; what is not held is left out."""
    keep(tmp_path, [range(start, start + 10) for start in range(0, 100, 10)])
    found = reader().find("orders", [f"m-{n}" for n in range(-5, 105)] + ["m-1"])
    assert sorted(locator.message_id for locator in found) == sorted(f"m-{n}" for n in range(100))
    for answer in reader().fetch(found):
        name = answer.locator.message_id
        assert isinstance(answer, Copy)
        assert answer.value == b"value " + name[2:].encode()
        assert (answer.key, answer.headers) == (b"k", {"x-message-id": name.encode()})
        assert answer.digest == record(int(name[2:]))[1].digest


def test_the_newest_copy_is_found(tmp_path, reader):
    """Across segments, whatever the order in which they were written, and within one."""
    one = archive(tmp_path)
    one.start()
    for at, value in ((3000, b"newest"), (1000, b"old"), (2000, b"middle")):
        assert one.wait(one.add(*records([1], at=at, value=value)), 20)
    two = [record(2, at=at, value=b"%d" % at) for at in (5, 9, 7)]
    assert one.wait(one.add([raw for raw, _ in two], [event for _, event in two]), 20)
    one.close()
    answers = reader().fetch(reader().find("orders", ["m-1", "m-2"]))
    assert {a.locator.message_id: a.value for a in answers} == {"m-1": b"newest", "m-2": b"9"}


def test_only_its_hop_and_flow(tmp_path, reader):
    """A message that another hop archived is not held by this one."""
    keep(tmp_path, [[1]])
    assert source(place(tmp_path, hop="other")).find("orders", ["m-1"]) == []
    assert reader().find("payments", ["m-1"]) == []
    assert reader().find("../orders", ["m-1"]) == []
    (locator,) = reader().find("orders", ["m-1"])
    (answer,) = source(place(tmp_path, hop="other")).fetch([locator])
    assert isinstance(answer, Missing)


def test_a_tombstone_is_not_sent_again(tmp_path, reader):
    """There is nothing in it."""
    one = archive(tmp_path)
    one._contents = lambda raw, event: Content(raw.key, None, {})
    one.start()
    assert one.wait(one.add(*records([1], value=b"")), 20)
    one.close()
    (answer,) = reader().fetch(reader().find("orders", ["m-1"]))
    assert isinstance(answer, Missing)
    assert "tombstone" in answer.reason


def test_a_damaged_segment_costs_only_its_own_messages(tmp_path, reader):
    """The reason names it. A search passes it over where its index is damaged as well, and finds the others."""
    keep(tmp_path, [[1], [2], [3]])
    found = reader().find("orders", ["m-1", "m-2", "m-3"])
    hit = files(tmp_path)[1]
    hit.write_bytes(hit.read_bytes()[:-1])
    answers = {a.locator.message_id: a for a in reader().fetch(found)}
    assert hit.name in answers["m-2"].reason
    assert [type(answers[name]) for name in ("m-1", "m-3")] == [Copy, Copy]
    files(tmp_path, ".index")[1].write_bytes(b"")
    assert {each.message_id for each in reader().find("orders", ["m-1", "m-2", "m-3"])} == {"m-1", "m-3"}


@pytest.mark.parametrize("damage", ["gone", "cut", "of another"])
def test_an_index_that_cannot_be_used_is_made_again(tmp_path, reader, damage):
    """Of its segment."""
    keep(tmp_path, [range(5), range(5, 10)])
    one, two = files(tmp_path, ".index")
    if damage == "gone":
        one.unlink()
    else:
        one.write_bytes(two.read_bytes() if damage == "of another" else b"TRKARC01")
    assert len(reader().find("orders", [f"m-{n}" for n in range(10)])) == 10


def test_when_nothing_can_be_read_it_says_so(tmp_path, reader):
    """A wrong key is not an empty archive."""
    keep(tmp_path, [[1], [2]])
    key_file(tmp_path, OTHER)
    with pytest.raises(Unreadable, match="is not known"):
        reader().find("orders", ["m-1"])


def test_segments_that_changed_places_are_refused(tmp_path, reader):
    """One under the other's name is not read as the other."""
    keep(tmp_path, [[1], [2]])
    found = reader().find("orders", ["m-1", "m-2"])
    one, two = files(tmp_path)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert all("it was written as" in answer.reason for answer in reader().fetch(found))


def test_places_of_others_are_none(tmp_path, reader):
    """Whatever stands in a locator, nothing outside of the archive is read."""
    keep(tmp_path, [[1]])
    (right,) = reader().find("orders", ["m-1"])
    wrong = [
        Locator("m-1", "log", "t/0", 1),
        Locator("m-1", "log", "../" + right.partition, 0),
        Locator("m-1", "log", right.partition, 1),
        Locator("m-1", "log", right.partition, -1),
        Locator("m-2", "log", right.partition, 0),
        Locator("m-1", "log", right.partition.replace("orders", "other"), 0),
    ]
    answers = reader().fetch([*wrong, right])
    assert [type(answer) for answer in answers if answer.locator == right] == [Copy]
    assert sum(isinstance(answer, Missing) for answer in answers) == len(wrong)


def test_the_cache_is_bounded_and_changes_nothing(tmp_path, reader):
    """With none at all the same is found."""
    keep(tmp_path, [range(start, start + 10) for start in range(0, 50, 10)])
    wanted = [f"m-{n}" for n in range(50)]
    small, large = reader(cache_mb=0), reader()
    assert small.find("orders", wanted) == large.find("orders", wanted) == large.find("orders", wanted)
    assert len(small._indices._held) == 0
    assert len(large._indices._held) == 5


def test_what_is_wrong_with_a_configuration(tmp_path):
    """It names the key."""
    with pytest.raises(ConfigInvalid, match="hop"):
        source({"url": "file:///x", "key": "env:HOME"})
    with pytest.raises(ConfigInvalid, match="unencrypted"):
        source({"url": "file:///x", "hop": "log"})
    with pytest.raises(ConfigInvalid, match="nosuch"):
        source({"url": "nosuch://x", "hop": "log", "unencrypted": True})


def test_a_store_that_is_away(tmp_path):
    """Unavailable, not empty; without the login of its URL."""
    (tmp_path / "file").write_text("")
    there = source({"url": f"file://{tmp_path}/file", "hop": "log", "unencrypted": True})
    with pytest.raises(Unavailable):
        there.fetch([Locator("m", "log", f"orders/log/{1:016d}-{1:016d}-{1:010d}-1-one.segment", 0)])


def test_other_file_systems_do_as_well():
    """Whatever fsspec knows: here its own in memory, one PUT a file."""
    import fsspec

    from collectors.archive.config import ArchiveConfig
    from collectors.archive.writer import Archive
    from tests.unit.collectors.archiving import QUICK, content

    url = "memory://tests/archive"
    said = ArchiveConfig(url=url, unencrypted=True, flows=("orders",), every=0.001)
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        one = Archive("one", said, content, Path(folder), 100, pace=QUICK)
        one.start()
        assert one.wait(one.add(*records(range(5))), 20)
        one.close()
    reader = source({"url": url, "hop": "log", "unencrypted": True})
    assert len(reader.fetch(reader.find("orders", ["m-1", "m-4", "m-9"]))) == 2
    fsspec.filesystem("memory").rm("/tests", recursive=True)
