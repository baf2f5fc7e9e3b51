"""How far a server is, asked now and then: what was read up to there is complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import redis

from collectors.redis.entry import Id, id_of


class Probe(NamedTuple):
    """Asked at `tick` (`wall`: epoch µs): the server had written up to `offset`, and these streams began with these
    entries."""

    tick: int
    wall: int
    offset: int = 0
    firsts: dict[str, Id | None] = {}  # noqa: RUF012 # a default of a tuple, that nobody changes


def probed(client: redis.Redis, keys: Iterable[str], tick: int, wall: int) -> Probe:
    """Both at one moment. `keys`: streams that were trimmed by length."""
    names = sorted(keys)
    with client.pipeline(transaction=True) as asked:
        asked.info("replication")
        for key in names:
            asked.xrange(key, count=1)
        info, *firsts = asked.execute()
    begin = {key: _first(found) for key, found in zip(names, firsts, strict=True)}
    return Probe(tick, wall, int(info["master_repl_offset"]), begin)


def _first(found: Any) -> Id | None:
    return id_of(found[0][0]) if found else None
