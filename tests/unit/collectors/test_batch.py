"""Up to when a batch may vouch, though the clock was set between two processes."""

from __future__ import annotations

import pytest

from collectors.batch import Bounds, next_batch
from collectors.segment import Kind
from collectors.spool import Spool
from collectors.standing import Standing

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000


@pytest.mark.parametrize(("ahead", "reached"), [(-HOUR, NOW - HOUR), (0, NOW), (HOUR, None)])
def test_a_mark_of_an_earlier_process(tmp_path, ahead, reached):
    """One that lies in the future of this process was made by a clock that was set back since: it says nothing."""
    first = Spool(tmp_path, clock=lambda: NOW + ahead)
    first.append(Kind.mark, b"", at=NOW + ahead)
    first.close()
    spool = Spool(tmp_path, clock=lambda: NOW + 1)
    assert next_batch(spool, Standing(collector="c", epoch=1), Bounds(), reader=True).reached == reached
    spool.append(Kind.mark, b"", at=NOW + 2)
    assert next_batch(spool, Standing(collector="c", epoch=1), Bounds(), reader=True).reached == NOW + 2
    spool.close()
