import gzip
import json

import pytest
import zstandard

from tests.unit.ingest.lines import body, event
from tracker.ingest.body import inflate, lines
from tracker.ingest.decoded import MAX_LINES
from tracker.ingest.errors import TooLarge, Unreadable, Unsupported
from tracker.ingest.lines.decode import decode

TEXT = body(event(), event(message_id="m-2"))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
        ("zstd", zstandard.compress(TEXT)),
        ("zstd", zstandard.compress(TEXT[:9]) + zstandard.compress(TEXT[9:])),
    ],
)
def test_every_encoding_gives_the_same_bytes(encoding, packed):
    """gzip and zstd bodies, of several members or frames, too, are what they were before."""
    assert inflate(packed, encoding, 1000) == TEXT


@pytest.mark.parametrize(
    "packed", [("gzip", gzip.compress(bytes(10_000_000))), ("zstd", zstandard.compress(bytes(10_000_000)))]
)
def test_a_bomb_is_refused_at_the_bound(packed):
    """A small body that inflates beyond the limit is refused with the limit named."""
    with pytest.raises(TooLarge, match="100000 bytes"):
        inflate(packed[1], packed[0], 100_000)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", b"nonsense"),
        ("gzip", gzip.compress(TEXT)[:-5]),
        ("zstd", b"nonsense"),
        ("zstd", zstandard.compress(TEXT)[:-5]),
    ],
)
def test_damaged_bodies_are_refused(encoding, packed):
    """Damage and truncation are told, never taken for a short body."""
    with pytest.raises(Unreadable, match=encoding):
        inflate(packed, encoding, 100_000)


def test_unknown_encodings_and_types_are_refused():
    """What we cannot read is refused with what we can."""
    with pytest.raises(Unsupported, match="gzip, zstd"):
        inflate(TEXT, "br", 1000)
    with pytest.raises(Unsupported, match="application/x-ndjson"):
        lines(TEXT, "application/xml")


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_one_event_per_element(indent):
    """A JSON array, pretty-printed or not, gives the same lines; text inside is untouched."""
    events = [event(), event(message_id="a\nb c"), 5]
    array = json.dumps(events, indent=indent).encode()
    assert [json.loads(line) for line in lines(array, "application/json; charset=utf-8").split(b"\n")] == events


def test_a_broken_array_is_refused_as_a_whole():
    """Without its structure nobody knows where one event ends, so nothing of it is stored, and the sender is told."""
    with pytest.raises(Unreadable, match="nothing of it was stored"):
        lines(b'[{"flow": 1}, ', "application/json")


def test_the_number_of_lines_is_bounded():
    """A body of countless lines is refused before any is looked at."""
    with pytest.raises(TooLarge, match="lines"):
        decode(b"{}\n" * (MAX_LINES + 1))


def test_an_empty_body_has_no_lines():
    """No bytes are no events and no errors."""
    assert [part.frame.height for part in decode(b"")] == [0]
    assert [part.frame.height for part in decode(b"\n \n")] == [0]
