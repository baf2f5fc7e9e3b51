"""What consumers say, caught in a stream of our own, so that nothing is missed while nobody reads.

A client acks by publishing to `$JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQ.CONSUMER_SEQ.TIME.PENDING`, with nothing, `+ACK`,
`+NXT`, `-NAK`, `+WPI` or `+TERM` as payload (ADR-15 of nats-architecture-and-design); newer servers may put a domain
and a hash of the account behind `ACK`. The server itself says what nobody says to it, as advisories and metrics.
The stream does not answer (`no_ack`), or a client that waits for the server's word would take ours for it.
"""

from __future__ import annotations

import msgspec

from collectors.nats.config import Followed
from collectors.nats.cursor import keep
from collectors.nats.link import Link
from collectors.nats.records import WORKING, Place, Said, delivery_of
from tracker.model.event import Stage

ACK, METRIC = "$JS.ACK.", "$JS.EVENT.METRIC.CONSUMER.ACK."
MAX_DELIVERIES = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."
SAYS: tuple[tuple[bytes, Stage | None, str], ...] = (
    (b"+ACK", Stage.ack, ""),
    (b"+NXT", Stage.ack, ""),
    (b"-NAK", Stage.nack, ""),
    (b"+TERM", Stage.dead_letter, "terminated"),
    (b"+WPI", None, WORKING),
)


class Advice(msgspec.Struct, frozen=True):
    """An ack metric, or an advisory, as far as it matters."""

    stream_seq: int
    deliveries: int = 0
    consumer_seq: int = 0


def stream_of(followed: Followed) -> str:
    """The stream that catches what a consumer says. All collectors of an account share it, for no two streams may catch
    the same subject."""
    return f"TRACKER_{followed.stream}_{followed.consumer}"


def made(link: Link, followed: Followed, keep_mb: int, replicas: int) -> None:
    """That stream. It forgets the oldest when it is full: nobody who acks ever waits for it."""
    name = f"{followed.stream}.{followed.consumer}"
    keep(
        link,
        stream_of(followed),
        {
            "subjects": [f"{ACK}{name}.>", METRIC + name, MAX_DELIVERIES + name], "no_ack": True, "discard": "old",
            "max_bytes": keep_mb << 20, "num_replicas": replicas, "duplicate_window": 0,
        },
    )  # fmt: skip


def said(subject: str, payload: bytes, place: Place, followed: Followed) -> Said:
    """What a message of that stream says; its `known` is for others to look up."""
    stage, reason, seq, number, deliveries, at = _meaning(subject, payload)
    delivery = delivery_of(followed.stream, seq, followed.consumer, number)
    return Said(
        place, followed.stream, seq, at, followed.consumer, followed.hop, stage, reason, delivery, deliveries, None
    )  # fmt: skip


def _meaning(subject: str, payload: bytes) -> tuple[Stage | None, str, int, int | str, int, int]:
    """Stage, reason, the message's number, that of the delivery, how many there were, when the message was stored."""
    if subject.startswith(ACK):
        words = subject.split(".")
        words = words[2:] if len(words) < 11 else words[4:]
        try:
            deliveries, seq, number, at = (int(word) for word in words[2:6])
        except ValueError:
            return None, "", 0, 0, 0, 0
        stage, reason = next(((s, r) for word, s, r in SAYS if payload.startswith(word)), (None, ""))
        return Stage.ack if not payload else stage, reason, seq, number, deliveries, at // 1000
    try:
        advice = msgspec.json.decode(payload, type=Advice)
    except msgspec.MsgspecError:
        return None, "", 0, 0, 0, 0
    if subject.startswith(METRIC):
        return Stage.ack, "", advice.stream_seq, advice.consumer_seq, advice.deliveries, 0
    return Stage.dead_letter, "max_deliveries", advice.stream_seq, "max", advice.deliveries, 0
