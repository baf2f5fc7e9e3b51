import pytest
import xxhash
from msgspec import structs

from tracker.model.carry import MESSAGE_ID, Copy, Locator, Missing
from tracker.replay.copies import attempts_carried, dressed, fault

PLACE = Locator("m-1", "kafka", "orders/0", 7)
RIGHT = xxhash.xxh3_64_hexdigest(b"payload")


def copy(value: bytes = b"payload", headers: dict[str, bytes] | None = None) -> Copy:
    """A copy of m-1; `digest` is what the source says, which nobody believes."""
    return Copy(PLACE, b"key", value, {MESSAGE_ID: b"m-1"} if headers is None else headers, "said by the source")


class TestFault:
    def test_the_copy_that_was_observed_is_good(self) -> None:
        """Equal digest, right id: it may be sent."""
        assert fault(copy(), frozenset({RIGHT}), MESSAGE_ID) == ""

    def test_another_payload_is_refused(self) -> None:
        """The digest is counted anew over the payload; the reason names the place and both digests."""
        reason = fault(copy(b"other"), frozenset({RIGHT}), MESSAGE_ID)
        assert "kafka orders/0 offset 7" in reason
        assert RIGHT in reason

    def test_another_message_at_the_same_place_is_refused(self) -> None:
        """A topic that was made anew holds others under the old offsets."""
        assert "m-2" in fault(copy(headers={MESSAGE_ID: b"m-2"}), frozenset(), MESSAGE_ID)

    def test_a_copy_without_id_is_refused(self) -> None:
        """Sent again it would count as another message, and never be recovered."""
        assert MESSAGE_ID in fault(copy(headers={}), frozenset({RIGHT}), MESSAGE_ID)

    def test_an_id_that_stands_elsewhere_counts(self) -> None:
        """A property of AMQP, a column of an archive: what the source found; a header says more."""
        elsewhere = structs.replace(copy(headers={}), message_id="m-1")
        assert fault(elsewhere, frozenset({RIGHT}), MESSAGE_ID) == ""
        assert dressed(elsewhere, "r-1", 1, MESSAGE_ID).headers[MESSAGE_ID] == b"m-1"
        assert "m-2" in fault(structs.replace(elsewhere, message_id="m-2"), frozenset(), MESSAGE_ID)
        assert "m-2" in fault(structs.replace(elsewhere, headers={MESSAGE_ID: b"m-2"}), frozenset(), MESSAGE_ID)

    def test_what_is_gone_is_refused_with_the_sources_reason(self) -> None:
        """Retention, mostly."""
        assert "retention took it" in fault(Missing(PLACE, "retention took it"), frozenset(), MESSAGE_ID)

    def test_observers_that_disagree_settle_nothing(self) -> None:
        """Two digests for one place: neither is known to be right."""
        assert "nobody knows" in fault(copy(), frozenset({RIGHT, "0" * 16}), MESSAGE_ID)

    def test_without_an_observed_digest_there_is_nothing_to_compare(self) -> None:
        """A collector that gives no digests does not make replay impossible."""
        assert fault(copy(), frozenset(), MESSAGE_ID) == ""


def test_what_buried_it_is_left_behind() -> None:
    """Headers that a dead letter got on its way there tell of a failure that is mended, and count attempts."""
    buried = {MESSAGE_ID: b"m-1", "x-death": b"...", "x-first-death-queue": b"q", "kafka_dlt-exception-fqcn": b"e"}
    sent = dressed(copy(headers=buried | {"__connect.errors.topic": b"t", "x-deathly": b"own"}), "r-1", 1, MESSAGE_ID)
    assert sorted(name for name in sent.headers if not name.startswith("x-tracker")) == ["x-deathly", MESSAGE_ID]


def test_a_copy_is_sent_as_it_was_with_three_headers_more() -> None:
    """Same value, key and headers; the replay's id, the attempt and where the copy came from."""
    sent = dressed(copy(headers={MESSAGE_ID: b"m-1", "trace": b"t"}), "r-1", 2, MESSAGE_ID)
    assert (sent.value, sent.key, sent.locator) == (b"payload", b"key", PLACE)
    assert sent.headers == {
        MESSAGE_ID: b"m-1",
        "trace": b"t",
        "x-tracker-replay": b"r-1",
        "x-tracker-replay-attempt": b"2",
        "x-tracker-replay-of": b"kafka/orders/0/7",
    }


def test_a_replay_of_a_replay_carries_the_newer_headers() -> None:
    """The lineage is one step deep in the headers; the timeline has all of it."""
    twice = dressed(dressed(copy(), "r-1", 1, MESSAGE_ID), "r-2", 2, MESSAGE_ID)
    assert (twice.headers["x-tracker-replay"], twice.headers["x-tracker-replay-attempt"]) == (b"r-2", b"2")


@pytest.mark.parametrize(("value", "number"), [(b"3", 3), (b"", 0), (b"-1", 0), (b"x", 0), (b"9" * 30, 0)])
def test_what_is_no_attempt_number_is_none(value: bytes, number: int) -> None:
    """Headers are foreign input."""
    assert attempts_carried(copy(headers={"x-tracker-replay-attempt": value})) == number
