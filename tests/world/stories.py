"""Messages and all that can be odd about them, told briefly: times are seconds from 0, nobody has received them yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from tests.unit.model.case import event
from tracker.model.event import Event
from tracker.model.units import SECOND

Stories = Mapping[str, Sequence[Event]]

RICH = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: mirror, stage: replicate, after: log, within: 30s, same_payload: true}}
  - {{hop: billing, stage: ack, after: log, within: 20s, at_most: 1}}
  - {{hop: audit, stage: deliver, after: log, within: 3s, required: false}}
  - {{hop: mail, stage: ack, after: [log, mirror], within: 20s, at_most: 2}}
"""
SAFE = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce, outbox: true}}
  - {{hop: till, stage: produce, outbox: true, after: shop, within: 5s, required: false}}
  - {{hop: [east, west], stage: persist, after: shop, within: 5s, quorum: 2}}
  - {{hop: billing, stage: ack, after: east, within: 10s}}
"""
PLAIN = """
flow: {flow}
checkpoints:
  - {{hop: shop, stage: produce}}
  - {{hop: log, stage: persist, after: shop, within: 5s}}
  - {{hop: billing, stage: ack, after: log, within: {within}s}}
"""
MICRO = 1 / SECOND
"""The smallest time there is, s."""


def at(place: str, seconds: float, **more: Any) -> Event:
    """An observation at `hop:stage`."""
    usual = {"digest": "aa", "delivery": "d1", "node": "n"}
    return structs.replace(event(place, seconds, **(usual | more)), received_at=None)


def whole(**other: Event | None) -> list[Event]:
    """A message that was delivered, with other events in place of some (by hop), or none."""
    usual = {"shop": at("shop:produce", 0), "log": at("log:persist", 1), "mirror": at("mirror:replicate", 2),
             "billing": at("billing:ack", 2), "mail": at("mail:ack", 3)}  # fmt: skip
    return [e for e in (usual | other).values() if e is not None]


def rich() -> Stories:
    """All that can be odd about a message of `RICH`, next to where it is not."""
    return _times() | _deliveries() | _births() | _payloads() | _ends() | _absences()


def _times() -> dict[str, list[Event]]:
    whole_late = at("billing:ack", 60)
    return {
        "whole": whole(), "elsewhere": [*whole(), at("other:ack", 2)],
        "audited": [*whole(), at("audit:deliver", 2)],
        "audited late": [*whole(), at("audit:deliver", 9)], "audited early": [*whole(), at("audit:deliver", -9)],
        "in time": whole(log=at("log:persist", 5)), "late": whole(log=at("log:persist", 5 + MICRO)),
        "acked late": whole(billing=at("billing:ack", 21 + MICRO)),
        "mailed late": whole(mail=at("mail:ack", 22 + MICRO)), "mailed in time": whole(mail=at("mail:ack", 22)),
        "early": whole(shop=at("shop:produce", 2)), "skewed": whole(shop=at("shop:produce", 2 + MICRO)),
        "told late": whole(log=at("log:persist", 1, backfill=True)),
        "backfilled": [structs.replace(e, backfill=True) for e in whole()],
        "backfilled, lacking": [structs.replace(e, backfill=True) for e in whole(billing=None)],
        "backfilled later": [structs.replace(e, backfill=True) for e in whole(billing=whole_late)],
        "polled": whole(billing=at("billing:ack", 30, observed_from=4)),
        "polled by a hair": whole(billing=at("billing:ack", 21 + MICRO, observed_from=21)),
        "polled late": whole(billing=at("billing:ack", 40, observed_from=30)),
    }  # fmt: skip


def _deliveries() -> dict[str, list[Event]]:
    """One may reach billing, two mail; replays do not count. Without a name of its own a delivery is a place and an
    attempt, or else a node."""
    twice, rest = at("billing:ack", 2, delivery="d2"), whole(billing=None)
    bare: dict[str, Any] = {"delivery": ""}
    read: dict[str, Any] = {"delivery": "", "partition": "p", "offset": 7, "group": "g", "attempt": 1}
    others: dict[str, Any] = {"partition": "q", "offset": 8, "group": "h", "attempt": 2}
    mails = [at("mail:ack", 3, delivery=name) for name in ("d2", "d3")]
    found = {
        "twice": [*whole(), twice], "twice from two nodes": [*whole(), at("billing:ack", 2, node="m")],
        "again by a replay": [*whole(), structs.replace(twice, replay_id="r")],
        "mailed twice": [*whole(), mails[0]], "mailed thrice": [*whole(), *mails],
        "mailed by a replay": [*whole(), *(structs.replace(e, replay_id="r") for e in mails)],
        "bare twice": [*rest, at("billing:ack", 2, **bare), at("billing:ack", 4, **bare)],
        "bare on two nodes": [*rest, *(at("billing:ack", 2, node=n, **bare) for n in "ab")],
        "read again": [*rest, *(at("billing:ack", 2, node=n, **read) for n in "ab")],
        "first offset": [*rest, *(at("billing:ack", 2, node=n, offset=0, **bare) for n in "ab")],
        "replayed": whole(log=at("log:persist", 1, replay_id="r")),
    }  # fmt: skip
    for name, other in others.items():
        one, two = at("billing:ack", 2, node="a", **read), at("billing:ack", 2, node="b", **(read | {name: other}))
        found[f"read with another {name}"] = [*rest, one, two]
        alone = {name: read[name]}
        found[f"read by {name} alone"] = [*rest, *(at("billing:ack", 2, node=n, **bare, **alone) for n in "ab")]
    return found


def _births() -> dict[str, list[Event]]:
    return {
        "reused": [*whole(), at("shop:produce", 0, origin_at=60, delivery="d9")],
        "reused more": [*whole(), at("shop:produce", 55 + MICRO, delivery="d9")],
        "nearly reused": [*whole(), at("shop:produce", 55, delivery="d9")],
        "produced again by a replay": [*whole(), at("shop:produce", 90, replay_id="r", delivery="d9")],
        "acked with an origin": whole(billing=at("billing:ack", 2, origin_at=90)),
        "origins": [*whole(), at("log:persist", 1, origin_at=-9), at("log:persist", 1, origin_at=-5)],
    }


def _payloads() -> dict[str, list[Event]]:
    return {
        "odd payload": whole(mirror=at("mirror:replicate", 2, digest="bb")),
        "odd at the log": [*whole(), at("log:persist", 1, digest="bb", node="m")],
        "no payload": whole(mirror=at("mirror:replicate", 2, digest="")),
        "odd and none": [
            *whole(mirror=at("mirror:replicate", 2, digest="bb")),
            at("log:persist", 1, digest="", node="m"),
        ],
        "odd elsewhere": whole(billing=at("billing:ack", 2, digest="bb")),
    }


def _ends() -> dict[str, list[Event]]:
    unacked = whole(billing=None)
    return {
        "dropped": [*unacked, at("billing:drop", 3, reason="expired", delivery="d1")],
        "filtered": [*unacked, at("billing:drop", 3, reason="filtered")],
        "dropped from the log": [*whole(mirror=None, billing=None, mail=None), at("log:drop", 3, reason="expired")],
        "dropped later": [*whole(), at("log:drop", 3, reason="expired")],
        "parked": [*unacked, at("billing:dead_letter", 3, reason="poison")],
        "parked and acked": [*whole(), at("billing:dead_letter", 3, reason="poison")],
        "tried again": [*whole(), at("billing:dead_letter", 3, reason="retry")],
        "refused": [*whole(), at("billing:nack", 3)], "refused only": [*unacked, at("billing:nack", 3)],
        "told of elsewhere first": [at("other:ack", -7, origin_at=-70), *whole()],
        "only elsewhere": [at("other:ack", 1)],
        "refused orphan": [*whole(shop=None), at("billing:nack", 3)],
        "acked at the log": [*unacked, at("log:ack", 3)],
    }  # fmt: skip


def _absences() -> dict[str, list[Event]]:
    return {
        "lost": whole(log=None, mirror=None, billing=None, mail=None), "unacked": whole(billing=None),
        "nothing but an ack": [at("mail:ack", 3)], "orphan": whole(shop=None), "implied": whole(log=None),
        "no copy": whole(mirror=None),
    }  # fmt: skip


def safe() -> Stories:
    """Nodes that are counted, and a shop that keeps a copy."""
    made = at("shop:produce", 0)
    on = lambda hop, node, seconds=1.0: at(f"{hop}:persist", seconds, node=node)  # noqa: E731
    ack = at("billing:ack", 2)
    return {
        "two": [made, on("east", "a"), on("east", "b"), ack], "one": [made, on("east", "a"), ack],
        "one, twice": [made, on("east", "a"), on("west", "a", 2), ack], "none": [made, ack], "made": [made],
        "both": [made, on("east", "a"), on("west", "b"), ack], "of a node without a name": [made, on("east", ""), ack],
        "three": [made, *(on("west", n) for n in "abc"), ack], "unacked": [made, on("east", "a"), on("east", "b")],
        "late west": [made, on("west", "a", 6), on("west", "b", 6), ack], "only an ack": [ack],
        "west in time": [made, on("east", "a", 7), on("west", "b", 1), ack],
        "handed out by the till": [made, at("till:deliver", 1), on("east", "a"), on("east", "b"), ack],
        "replayed copy": [made, on("east", "a"), structs.replace(on("east", "b"), replay_id="r"), ack],
    }  # fmt: skip
