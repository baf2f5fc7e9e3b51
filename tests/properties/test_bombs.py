"""Small bodies that could become large ones: what they are made of is never made, or made piece by piece."""

from __future__ import annotations

import gzip
import resource

import pytest
import zstandard

from tests.unit.ingest.lines import body, event
from tracker.ingest.body import inflate, lines
from tracker.ingest.decoded import MAX_LINES
from tracker.ingest.errors import TooLarge, Unreadable

TEXT = body(event(), event(message_id="m-2"))
PACKED = {"gzip": gzip.compress(TEXT), "zstd": zstandard.compress(TEXT)}
EMPTY = [("gzip", gzip.compress(b"")), ("zstd", zstandard.compress(b"")), ("zstd", b"\x50\x2a\x4d\x18" + bytes(4))]


@pytest.mark.parametrize(("encoding", "frame"), EMPTY, ids=["gzip", "zstd", "zstd, to be skipped"])
def test_millions_of_empty_frames(encoding: str, frame: bytes) -> None:
    """Members and frames that hold nothing, skippable ones too, cost what their bytes cost: the rest of the body is not
    copied for each of them, which would take hours."""
    frames = frame * ((8 << 20) // len(frame))
    assert inflate(frames + PACKED[encoding], encoding, 1000) == TEXT


def test_a_window_of_a_gigabyte() -> None:
    """A frame may not ask for more memory than 128 MiB, however little it holds."""
    wanted = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=wanted).compressobj()
    with pytest.raises(Unreadable, match="memory"):
        inflate(stream.compress(TEXT) + stream.flush(), "zstd", 1000)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_gigabyte_in_a_small_body(encoding: str) -> None:
    """What a body could become is not made before it is refused."""
    once = gzip.compress(bytes(1 << 27), 9) if encoding == "gzip" else zstandard.compress(bytes(1 << 27), 19)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge, match="1000000 bytes"):
        inflate(once * 8, encoding, 1_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("element", [b"1", b"{}", b"[]", b'"a,b"', b'"\\\\"', b'{"a": [1, 2], "\\"": "]"}'])
def test_countless_elements(element: bytes) -> None:
    """The elements of an array are counted before any is made, whatever commas, quotes and brackets they hold."""
    most = b"[" + b",".join([element] * MAX_LINES) + b"]"
    assert lines(most, "application/json").count(b"\n") == MAX_LINES - 1
    with pytest.raises(TooLarge, match="elements"):
        lines(b"[1," + most[1:], "application/json")
