import pytest

from tests.unit.ingest.lines import NOW, batch, event, moved, stored


def reasons(*lines) -> list[tuple[int, str, str]]:
    """(line, field, reason) of every error."""
    return [(e.line, e.field, e.reason) for e in batch(*lines).answer.errors]


def test_a_bad_line_goes_to_quarantine_and_the_good_ones_are_taken():
    """One malformed line never takes its batch down; it is kept with its line, reason, source and bytes."""
    got = batch(event(), b'{"flow": "orders"', event(message_id="m-2"))
    assert (got.answer.accepted, got.answer.quarantined) == (2, 1)
    assert got.events["message_id"].to_pylist() == ["m-1", "m-2"]
    kept = got.quarantine.to_pylist()
    assert [(row["line"], row["source"], row["raw"]) for row in kept] == [(2, "test", '{"flow": "orders"')]


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        (event(flow=None), "flow", "required"),
        (event(flow="nope"), "flow", "tracker flows put nope.yaml"),
        (event(flow="a b"), "flow", "no name"),
        (event(message_id=None), "message_id", "required"),
        (event(message_id=""), "message_id", "required"),
        (event(message_id="x" * 513), "message_id", "513 bytes"),
        (event(message_id="a\0b"), "message_id", "NUL"),
        (event(message_id=["m-1"]), "message_id", "must be a text"),
        (event(hop=None), "hop", "required"),
        (event(stage="sent"), "stage", "'sent' is not known"),
        (event(stage="drop"), "reason", "required"),
        (event(stage="drop", reason="whim"), "reason", "'whim' is not known"),
        (event(stage="dead_letter"), "reason", "required"),
        (event(observed_at=None), "observed_at", "required"),
        (event(observed_at="yesterday"), "observed_at", "no time"),
        (event(observed_at="2026-01-01T00:00:00"), "observed_at", "no time"),
        (event(observed_at=12), "observed_at", "before 2000"),
        (event(observed_at=NOW + 2 * 86_400_000_000), "observed_at", "ahead of the tracker's clock"),
        (event(observed_from=NOW + 1), "observed_from", "not lie after observed_at"),
        (event(origin_at="x"), "origin_at", "no time"),
        (event(digest="cafe"), "digest", "16 hex digits"),
        (event(size=-1), "size", "whole number"),
        (event(attempt=70_000), "attempt", "0 to 65535"),
        (event(offset="x"), "offset", "whole number"),
        (event(attributes=[1]), "attributes", "object of texts"),
        (event(attributes={"a": {"b": 1}}), "attributes", "object of texts"),
        (event(attributes={"a": "x" * 9000}), "attributes", "at most"),
        (event(evidence="hearsay"), "evidence", "not known"),
        (moved(log=None), "log", "required"),
        (moved(offset_to=0), "offset_to", "after offset"),
        (moved(stage="drop"), "reason", "required with stage drop"),
        (moved(stage="drop", reason="whim"), "reason", "'whim' is not known; one of abandoned"),
        (moved(reason="skipped"), "reason", "left out of a range, but with stage drop"),
        (b"[1, 2]", "", "not a JSON object"),
        (b"null", "", "not a JSON object"),
        (b"\xff\xfe", "", "not readable"),
        (b"{" * 3000, "", "not readable"),
    ],
)
def test_every_rule_names_its_field_and_says_why(line, field, words):
    """A bad line's error names the field and tells what is wrong with it."""
    [(number, told, reason)] = reasons(event(), line)[-1:]
    assert (number, told) == (2, field)
    assert words in reason


def test_blank_lines_count_but_are_no_errors():
    """Line numbers are those of the body as sent, blank lines included."""
    got = batch(event(), b"", b"  \r", event(stage="sent"))
    assert (got.answer.accepted, [e.line for e in got.answer.errors]) == (1, [4])


def test_many_bad_lines_among_many_good_ones():
    """However bad lines are spread, each is found and nothing else is."""
    lines = [b"oops" if n % 700 == 3 else event(message_id=f"m-{n}") for n in range(3000)]
    got = batch(*lines)
    assert [e.line for e in got.answer.errors] == [n + 1 for n in range(3000) if n % 700 == 3]
    assert got.answer.accepted == 3000 - got.answer.quarantined
    assert set(got.events["message_id"].to_pylist()) == {f"m-{n}" for n in range(3000) if n % 700 != 3}


def test_fields_become_columns():
    """Hex digests become numbers, intervals become spans, what is absent has the store's word for it."""
    [row] = stored(batch(event(digest="00000000000000ff", observed_from=NOW - 9, size=3, partition="orders/3",
                               offset=17, group="g", attempt=2, attributes={"a": "b", "n": 1})))  # fmt: skip
    assert (row["digest"], row["observed_span"], row["size"], row["offset"], row["attempt"]) == (255, 9, 3, 17, 2)
    assert row["consumer_group"] == "g"
    assert row["attributes"] == [("a", "b"), ("n", "1")]
    assert (row["origin_at"], row["delivery"], row["received_at"]) == (0, "", NOW)
    [bare] = stored(batch(event()))
    assert (bare["digest"], bare["offset"], bare["key_hash"], bare["attributes"]) == (0, -1, 0, [])


def test_an_empty_text_for_attributes_is_none():
    """As an empty text is for every other field; beside rows that have some, and with none of them."""
    assert stored(batch(event(attributes="")))[0]["attributes"] == []
    rows = stored(batch(event(attributes=""), event(attributes={"a": "b"}), event(attributes={"n": 1})))
    assert sorted(row["attributes"] for row in rows) == [[], [("a", "b")], [("n", "1")]]


def test_an_id_that_looks_like_json_is_a_text():
    """Any text may be an id, brackets included."""
    assert batch(event(message_id="[1]")).events["message_id"].to_pylist() == ["[1]"]


def test_keys_are_hashed_unless_the_flow_says_plain():
    """A key is kept as a hash that depends on the installation's salt; equal keys stay equal."""
    rows = batch(event(key="k"), event(key="k"), event(key="l"), event(key="k", flow="open")).events.to_pylist()
    assert [row["key"] for row in rows] == ["", "", "", "k"]
    hashes = [row["key_hash"] for row in rows]
    assert hashes[0] == hashes[1] == hashes[3] != hashes[2]


def test_ranges_are_told_apart_by_their_evidence():
    """A line with evidence `range` becomes a range, never an event."""
    got = batch(event(), moved(group="g", node="c-1"))
    assert (got.answer.accepted, got.events.num_rows) == (2, 1)
    row = got.ranges.to_pylist()[0]
    assert (row["log"], row["offset"], row["offset_to"], row["consumer_group"]) == ("kafka-eu", 0, 10, "g")


REPORT = '{"collector": "c", "epoch": 1, "sequence": 2, "events": 2, "dropped": 1, "sources": [["orders"]]}'
GOOD = (
    '{"collector": "c", "epoch": 1, "sequence": 2, "events": 2, "dropped": 1, "sources": '
    '[{"flow": "orders", "hop": "billing", "stage": "ack", "source": "pod-7"}], "signed_off": []}'
)


def test_a_report_admits_what_quarantine_got():
    """An event that no verdict can see must not be vouched for; one of an unknown flow concerns nobody's coverage."""
    got = batch(event(), event(stage="sent"), b"x", event(flow="nope"), header=GOOD)
    ours, row = got.reports.to_pylist()
    assert (ours["collector"], ours["dropped"], len(ours["sources"])) == ("", 2, 2)
    assert (row["collector"], row["sequence"], row["events"], row["dropped"]) == ("c", 2, 2, 3)
    assert row["sources"] == row["signed_off"] == []
    row = batch(event(), event(flow="nope"), header=GOOD).reports.to_pylist()[0]
    assert row["dropped"] == 1
    assert row["sources"][0] == {
        "flow": "orders",
        "hop": "billing",
        "stage": "ack",
        "source": "pod-7",
        "evidence": "message",
    }


@pytest.mark.parametrize(
    "header", ["xx", REPORT, GOOD.replace('"epoch": 1', '"epoch": -1'), GOOD.replace("ack", "sent")]
)
def test_a_broken_report_does_not_take_the_events_down(header):
    """The events are kept, the report is listed as line 0 and kept in quarantine; nobody is vouched for."""
    got = batch(event(), header=header)
    assert (got.answer.accepted, got.reports.num_rows) == (1, 0)
    assert [(e.line, e.field) for e in got.answer.errors] == [(0, "Tracker-Coverage")]
    assert got.quarantine["raw"].to_pylist() == [header]
