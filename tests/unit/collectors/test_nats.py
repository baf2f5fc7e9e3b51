"""What NATS says, without a server: acks, limits, subjects, what was not given."""

from __future__ import annotations

import msgspec
import pytest

from collectors.errors import ConfigInvalid
from collectors.nats.acks import said
from collectors.nats.config import Followed, NatsConfig
from collectors.nats.feed import Info
from collectors.nats.records import Known, Place, fits, headers_of
from collectors.nats.unread import Given, Unread
from collectors.nats.why import why_gone
from collectors.part import settings
from tracker.model.event import Stage

BILLING = Followed(stream="S", consumer="billing", hop="billing")
KNOWN = Known("a.b", 1, {"x-message-id": b"m-1"}, "", 0)
PLACE = Place("TRACKER_S_billing", "today", 1)
TOKENS = "S.billing.2.17.9.1795363274791425628.0"


@pytest.mark.parametrize(("payload", "stage", "reason"), [
    (b"", Stage.ack, ""), (b"+ACK", Stage.ack, ""), (b"+NXT 1", Stage.ack, ""), (b"-NAK", Stage.nack, ""),
    (b'-NAK {"delay": 3}', Stage.nack, ""), (b"+TERM", Stage.dead_letter, "terminated"),
    (b"+TERM too old", Stage.dead_letter, "terminated"), (b"+WPI", None, "working"), (b"else", None, ""),
])  # fmt: skip
@pytest.mark.parametrize("subject", [f"$JS.ACK.{TOKENS}", f"$JS.ACK._.hash.{TOKENS}.random"])
def test_what_a_client_says(subject: str, payload: bytes, stage: Stage | None, reason: str) -> None:
    """By the payload, under the old form of the subject and the one with domain and account."""
    found = said(subject, payload, PLACE, BILLING)
    assert (found.stage, found.reason, found.seq, found.delivery, found.deliveries, found.at) == (
        stage, reason, 17, "S:17:billing:9", 2, 1795363274791425,
    )  # fmt: skip


def test_what_the_server_says() -> None:
    """An ack metric is of the same delivery as the ack; a message that was given up has none of its own."""
    metric = b'{"stream_seq": 17, "consumer_seq": 9, "deliveries": 2, "ack_time": 5}'
    found = said("$JS.EVENT.METRIC.CONSUMER.ACK.S.billing", metric, PLACE, BILLING)
    assert (found.stage, found.delivery) == (Stage.ack, "S:17:billing:9")
    found = said("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.billing", metric, PLACE, BILLING)
    assert (found.stage, found.reason, found.delivery) == (Stage.dead_letter, "max_deliveries", "S:17:billing:max")


@pytest.mark.parametrize("subject", [
    "$JS.ACK.S.billing.x.y.z.0.0", "$JS.ACK.S", "$JS.EVENT.METRIC.CONSUMER.ACK.S.billing",
])  # fmt: skip
def test_what_makes_no_sense_says_nothing(subject: str) -> None:
    """Anybody may publish there."""
    assert said(subject, b"nonsense", PLACE, BILLING).stage is None


@pytest.mark.parametrize(("pattern", "subject", "does"), [
    (">", "a", True), ("a.>", "a", False), ("a.>", "a.b.c", True), ("a.*", "a.b", True), ("a.*", "a.b.c", False),
    ("*.b", "a.b", True), ("a", "a.b", False), ("a.b", "a", False),
])  # fmt: skip
def test_which_subjects_a_pattern_means(pattern: str, subject: str, does: bool) -> None:
    """As NATS has it: `>` stands for one word or more."""
    assert fits(pattern, subject) is does


def test_headers_of_a_message() -> None:
    """Of a name given twice the last; what is no header is passed over."""
    assert headers_of(b"NATS/1.0\r\na: 1\r\na:2\r\nb:\r\nnonsense\r\n\r\n") == {"a": b"2", "b": b""}
    assert headers_of(b"") == {}


def test_what_nobody_will_get() -> None:
    """Gone and not given: at once. Gone and given: when the time for an ack is over, unless it was acked. Each once."""
    unread, given = Unread(100, 1 << 20), {"billing": Given(3, 100)}
    for seq in range(1, 11):
        unread.stored(seq, KNOWN, ["billing"] if seq != 8 else [])
    assert list(unread.gone(6, given, 0)) == [(4, 6)]
    unread.settled(2, 3, "billing")
    assert list(unread.gone(6, given, 99)) == []
    assert list(unread.gone(6, given, 100)) == [(1, 2), (3, 4)]
    assert list(unread.gone(6, given, 200)) == []
    assert list(unread.gone(11, given, 200)) == [(6, 8), (9, 11)]


def test_who_asks_for_more_time_gets_it() -> None:
    """What it works on is not lost meanwhile, though the stream forgot it."""
    unread, given = Unread(100, 1 << 20), {"billing": Given(1, 100)}
    unread.stored(1, KNOWN, ["billing"])
    assert list(unread.gone(2, given, 0)) == []
    unread.heard(1)
    assert list(unread.gone(2, given, 90)) == []
    assert list(unread.gone(2, given, 189)) == []
    assert list(unread.gone(2, given, 190)) == [(1, 2)]


def test_what_one_consumer_may_have_is_not_told_for_another() -> None:
    """Of several consumers: when one was not given it, and no other may ack it any more. One that is not there says
    nothing, and is not waited for."""
    given = {"billing": Given(0, 100), "audit": Given(1, 50)}
    for acks in (True, False):
        unread = Unread(100, 1 << 20)
        unread.stored(1, KNOWN, ["billing", "audit", "nobody"])
        assert list(unread.gone(2, given, 0)) == []
        if acks:
            unread.settled(1, 2, "audit")
        assert list(unread.gone(2, given, 1 if acks else 50)) == [(1, 2)]
    unread.stored(2, KNOWN, ["nobody"])
    assert list(unread.gone(3, given, 500)) == []


def test_more_than_is_remembered_is_not_told() -> None:
    """The oldest are forgotten."""
    for most, most_bytes in ((2, 1 << 20), (100, 2 * KNOWN.weight)):
        unread = Unread(most, most_bytes)
        for seq in range(1, 5):
            unread.stored(seq, KNOWN, ["billing"])
        assert list(unread.gone(9, {"billing": Given(0, 0)}, 0)) == [(3, 5)]
        assert unread.bytes == 0


@pytest.mark.parametrize(("limits", "state", "why"), [
    ({"max_msgs": 10}, {"messages": 10}, "discarded"), ({"max_bytes": 1000}, {"bytes": 950}, "discarded"),
    ({"max_msgs": 10}, {"messages": 1}, "purged"), ({}, {}, "purged"),
    ({"max_age": 60_000_000_000}, {"first_ts": "2026-01-01T00:00:01Z"}, "expired"),
    ({"max_age": 60_000_000_000}, {"first_ts": "2026-01-01T00:00:50Z"}, "purged"),
    ({"max_age": 60_000_000_000}, {"messages": 0}, "expired"),
])  # fmt: skip
def test_why_a_stream_forgot(limits: dict[str, int], state: dict[str, object], why: str) -> None:
    """Its limits say."""
    whole = {"messages": 5, "bytes": 500, "first_seq": 3, "last_seq": 9, "first_ts": "2026-01-01T00:00:30Z", **state}
    info = msgspec.convert({"created": "today", "state": whole, "config": limits}, Info)
    assert why_gone(info, 1767225660_000_000, 0.5) == why


@pytest.mark.parametrize(("wrong", "text"), [
    ({"url": "http://x"}, "nats://HOST:PORT"), ({"url": "nats://tracker:pass:word@x:y"}, "percent-encode"),
    ({"credentials": "of.creds"}, "pip install nkeys"),
    ({"consumers": [{"stream": "T", "consumer": "c", "hop": "h"}]}, "T is not among"),
    ({"streams": [{"stream": "S", "flow": "f", "hop": "h"}, {"stream": "T", "flow": "f", "hop": "h",
                                                            "stage": "replicate"}]}, "collector of their own"),
])  # fmt: skip
def test_a_wrong_configuration_names_its_key(wrong: dict[str, object], text: str) -> None:
    """And tells no password."""
    good = {"url": "nats://x:4222", "streams": [{"stream": "S", "flow": "f", "hop": "h"}]}
    with pytest.raises(ConfigInvalid, match=text) as raised:
        settings(NatsConfig, {**good, **wrong}, "collector nats")
    assert "pass:word" not in str(raised.value)


def test_logins() -> None:
    """User and password, decoded; or a token; TLS by the scheme."""
    good = {"streams": [{"stream": "S", "flow": "f", "hop": "h"}]}
    options = settings(NatsConfig, {**good, "url": "tls://a:p%40ss@x:4222,tls://y:4222"}, "it").options()
    assert options == {"servers": ["tls://x:4222", "tls://y:4222"], "user": "a", "password": "p@ss"}
    assert settings(NatsConfig, {**good, "url": "nats://t0ken@x:4222"}, "it").options()["token"] == "t0ken"
