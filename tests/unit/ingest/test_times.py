import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.ingest.times import micros
from tracker.model.units import instant, rfc3339

NOW = 1_767_225_600_123_456


def read(*texts: str) -> list[int | None]:
    """Each text as the column reads it."""
    return pl.DataFrame({"t": list(texts)}).select(micros("t")).to_series().to_list()


def test_units_are_told_apart_per_value():
    """Seconds, milliseconds, microseconds and nanoseconds may stand in one column."""
    texts = ("1767225600.123456", "1767225600123.456", "1767225600123456", "1767225600123456789", "1767225600")
    assert read(*texts) == [NOW, NOW, NOW, NOW, 1_767_225_600_000_000]


def test_rfc3339_in_its_forms():
    """Any offset, small letters, a space for the T, up to nine digits of a second."""
    texts = ("2026-01-01T00:00:00.123456Z", "2026-01-01t02:00:00.123456+02:00", "2026-01-01 00:00:00.123456789z")
    assert read(*texts) == [NOW, NOW, NOW]


def test_what_is_no_time_is_null():
    """Words, times without a zone, impossible dates and negative numbers are nobody's guess."""
    assert read("soon", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "-5", "", "1e") == [None] * 6


@settings(deadline=None)  # the first column takes a while
@given(st.integers(946_684_800_000_000, 4_000_000_000_000_000))
def test_columns_and_the_model_read_times_alike(moment: int):
    """The same text gives the same time here and in `tracker.model.units.instant`."""
    texts = [str(moment), str(moment // 1000), str(moment * 1000 + 7), rfc3339(moment)]
    assert read(*texts) == [instant(text) for text in texts]
