"""Times on the wire -> microseconds, as columns: the same rules as `tracker.model.units.instant`."""

from __future__ import annotations

import polars as pl

from tracker.model.units import SECOND

EARLIEST = 946_684_800 * SECOND
"""2000-01-01: what reads as earlier was written in another unit, or by a clock that was never set."""
LATEST = 86_400 * SECOND
"""How far ahead of the tracker's clock a time may lie: a day."""
_NUMBER = r"^\d+(\.\d+)?([eE]\+?\d+)?$"
_RFC3339 = "%+"


def micros(name: str) -> pl.Expr:
    """Column `name` (text) as epoch microseconds, null where it is no time: RFC 3339, or a number of s below 1e11,
    of ms below 1e14, of µs below 1e17, else of ns, told apart per value."""
    text = pl.col(name)
    whole = text.cast(pl.Int64, strict=False)
    real = text.cast(pl.Float64, strict=False)
    number = (
        pl.when(whole.is_null() | (whole < 100_000_000_000_000)).then(_scaled(real))
        .when(whole < 100_000_000_000_000_000).then(whole)
        .otherwise(whole // 1000)
    )  # fmt: skip
    written = text.str.to_uppercase().str.replace(" ", "T", literal=True)
    moment = written.str.to_datetime(_RFC3339, time_unit="us", time_zone="UTC", strict=False).dt.epoch("us")
    return pl.when(text.str.contains(_NUMBER)).then(number).otherwise(moment)


def _scaled(real: pl.Expr) -> pl.Expr:
    """A float of seconds or milliseconds is exact to less than a microsecond until the year 2100."""
    micros_ = (
        pl.when(real < 1e11).then(real * SECOND)
        .when(real < 1e14).then(real * 1000)
        .when(real < 1e17).then(real)
        .otherwise(real / 1000)
    )  # fmt: skip
    return micros_.round().cast(pl.Int64, strict=False)
