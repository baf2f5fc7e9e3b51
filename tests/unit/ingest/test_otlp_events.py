"""Spans -> events: what each field comes from, by old and by new conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.ingest.lines import CONTEXT
from tests.unit.ingest.spans import AT, ORDERS, PROCESSED, SENT, body, reader, request, span, told
from tracker.ingest.errors import TooLarge, Unreadable
from tracker.ingest.otlp import names, read
from tracker.ingest.otlp.account import FAILED, NO_FLOW, NO_ID, NO_STAGE
from tracker.ingest.otlp.gather import FEW, worded
from tracker.ingest.otlp.jsoned import LIMIT, protobuf
from tracker.ingest.prepare import prepare

ID = {"messaging.message.id": "m-1"}


def one(said: dict[str, Any], service: str = "billing", kind: str = "consumer", **more: Any) -> dict[str, Any]:
    """The event of a span alone."""
    [event] = told(body([span(said, kind, **more)], service))
    return event


def test_a_send_is_a_produce() -> None:
    """Flow and hop by the flow's match; origin when the span began, observed when it ended; ids as hex."""
    [event] = told(body([span(SENT | ID, number=10)], service_instance_id="pod-1", cloud_region="eu-1"))
    assert event == {
        "line": 1, "flow": "orders", "hop": "checkout", "stage": "produce", "message_id": "m-1",
        "observed_at": AT // 1000 + 2000, "origin_at": AT // 1000, "delivery": "000000000000000a",
        "trace_id": "0000000000000000000000000000000a", "span_id": "000000000000000a",
        "node": "pod-1", "region": "eu-1",
    }  # fmt: skip


NEW = {"messaging.destination.partition.id": "3", "messaging.kafka.offset": 42,
       "messaging.consumer.group.name": "billers", "messaging.message.conversation_id": "c-7",
       "messaging.message.body.size": 1234, "messaging.kafka.message.key": "k"}  # fmt: skip
OLDER = {"messaging.kafka.destination.partition": 3, "messaging.kafka.message.offset": 42,
         "messaging.kafka.consumer.group": "billers", "messaging.message.conversation_id": "c-7",
         "messaging.message.payload_size_bytes": 1234, "messaging.kafka.message.key": "k"}  # fmt: skip
OLDEST = {"messaging.kafka.partition": 3, "messaging.kafka.message.offset": "42",
          "messaging.kafka.consumer_group": "billers", "messaging.conversation_id": "c-7",
          "messaging.message_payload_size_bytes": 1234, "messaging.kafka.message_key": "k"}  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "details"),
    [
        (PROCESSED | ID, NEW),
        ({"messaging.destination.name": "orders", "messaging.operation": "process", **ID}, OLDER),
        ({"messaging.destination": "orders", "messaging.operation": "process", "messaging.message_id": "m-1"}, OLDEST),
        ({"messaging.destination": "old", "messaging.operation": "publish", **OLDEST, **PROCESSED, **ID}, NEW),
    ],
    ids=["new", "1.17", "1.9", "both"],
)
def test_old_and_new_conventions_say_the_same(operation: dict[str, Any], details: dict[str, Any]) -> None:
    """Whatever its version, an instrumentation's spans make the same event; where it sends both, the newer counts."""
    event = one(operation | details)
    assert (event["hop"], event["stage"], event["message_id"]) == ("billing", "ack", "m-1")
    assert (event["partition"], event["offset"], event["group"]) == ("orders/3", 42, "billers")
    assert (event["correlation_id"], event["size"], event["key"]) == ("c-7", 1234, "k")
    assert "delivery" not in event, "it is derived from partition, offset and group"


@pytest.mark.parametrize(
    ("said", "kind", "error", "stage"),
    [
        ({"messaging.operation.type": "create"}, "producer", False, "produce"),
        ({"messaging.operation.type": "publish"}, "client", False, "produce"),
        ({"messaging.operation.type": "send"}, "producer", True, None),
        ({}, "producer", False, "produce"),
        ({"messaging.operation.type": "receive"}, "consumer", False, "deliver"),
        ({"messaging.operation.name": "poll"}, "client", False, "deliver"),
        ({"messaging.operation.type": "receive"}, "consumer", True, None),
        ({"messaging.operation.type": "process"}, "consumer", False, "ack"),
        ({"messaging.operation.type": "process"}, "consumer", True, "nack"),
        ({}, "consumer", False, "ack"),
        ({"celery.state": "SUCCESS"}, "consumer", False, "ack"),
        ({"celery.state": "RETRY"}, "consumer", False, "nack"),
        ({}, "client", False, None),
        ({"messaging.operation.type": "settle", "messaging.operation.name": "ack"}, "client", False, "ack"),
        ({"messaging.operation.type": "settle", "messaging.operation.name": "reject"}, "client", False, "nack"),
        ({"messaging.operation.type": "settle", "messaging.servicebus.disposition_status": "dead_letter"},
         "client", False, "dead_letter"),
        ({"messaging.operation.type": "settle"}, "client", False, None),
        ({"messaging.operation.type": "settle", "messaging.operation.name": "ack"}, "client", True, None),
        ({"messaging.operation.name": "commit"}, "client", False, "ack"),
        ({"messaging.operation.type": "browse"}, "consumer", False, None),
    ],
)  # fmt: skip
def test_the_stage_is_what_operation_kind_and_status_say(
    said: dict[str, str], kind: str, error: bool, stage: str | None
) -> None:
    """The table of docs/otlp.md."""
    spec = ORDERS.replace("service: billing", "service: '*'").replace("service: checkout", "service: '*'")
    found = told(body([span({"messaging.destination.name": "orders"} | said | ID, kind, error=error)], "x"), spec)
    assert [event["stage"] for event in found] == ([stage] if stage else [])


def test_why_a_message_was_refused() -> None:
    """A nack carries the error's type; a dead letter needs a reason and gets one."""
    assert one(PROCESSED | ID | {"error.type": "TimeoutError"}, error=True)["reason"] == "TimeoutError"
    parked = {"messaging.operation.type": "settle", "messaging.operation.name": "dead_letter"}
    assert one(PROCESSED | ID | parked)["reason"] == "settled"
    assert "reason" not in one(PROCESSED | ID | {"error.type": "x"})


class TestBatches:
    LINKED: tuple[dict[str, str], ...] = ({"messaging.message.id": "a"}, {"messaging.message.id": "b"}, {})

    def test_one_event_per_linked_message(self) -> None:
        """A batch that is processed as one tells of each message by a link; a link without an id tells of none."""
        found = told(body([span(PROCESSED, "consumer", links=self.LINKED)], "billing"))
        assert [(e["message_id"], e["stage"], e["line"]) for e in found] == [("a", "ack", 1), ("b", "ack", 2)]
        assert {e["span_id"] for e in found} == {"0000000000000001"}

    def test_what_a_link_says_counts_before_what_the_span_says(self) -> None:
        """Offsets differ from message to message."""
        links = [{"messaging.message.id": n, "messaging.kafka.offset": at} for n, at in (("a", 1), ("b", 2))]
        said = PROCESSED | {"messaging.kafka.offset": 9, "messaging.destination.partition.id": "0"}
        found = told(body([span(said, "consumer", links=links)], "billing"))
        assert [(e["offset"], e["partition"]) for e in found] == [(1, "orders/0"), (2, "orders/0")]

    def test_a_span_that_names_its_message_is_no_batch(self) -> None:
        """Its link leads to where the message was created."""
        [event] = told(body([span(PROCESSED | ID, "consumer", links=self.LINKED)], "billing"))
        assert event["message_id"] == "m-1"

    def test_a_batch_that_names_nothing_is_counted(self) -> None:
        """Once, however many links it has."""
        _, account = reader().read(body([span(PROCESSED, "consumer", links=[{}, {}])], "billing"))
        assert [(s.reason, s.count, s.flow) for s in account.seen] == [(NO_ID, 1, "orders")]


class TestIdentity:
    SPEC = ORDERS.replace("checkpoints:", "identity: {attribute: order.id}\ncheckpoints:")

    def test_the_flow_says_which_attribute_names_a_message(self) -> None:
        """An id of the broker's is no id of the application's."""
        [event] = told(body([span(SENT | ID | {"order.id": 4711})]), self.SPEC)
        assert event["message_id"] == "4711"

    def test_without_it_nothing_else_is_taken_for_the_id(self) -> None:
        """Two names for one message would be two messages, one of them lost."""
        decoded, account = reader(self.SPEC).read(body([span(SENT | ID)]))
        assert (decoded.frame.height, account.count(NO_ID)) == (0, 1)

    def test_the_applications_own_word_counts_most(self) -> None:
        """`tracker.message_id` is what somebody set on purpose."""
        [event] = told(body([span(SENT | {"order.id": "a", "tracker.message_id": "b"})]), self.SPEC)
        assert event["message_id"] == "b"

    def test_a_header_that_an_agent_captured(self) -> None:
        """It comes as an array; the first value counts."""
        spec = self.SPEC.replace("order.id", "messaging.header.x_message_id")
        [event] = told(body([span(SENT | {"messaging.header.x_message_id": ["h-1", "h-2"]})]), spec)
        assert event["message_id"] == "h-1"


def test_an_application_may_name_everything_itself() -> None:
    """`tracker.*` on a span that is about no messaging system, or where no match fits."""
    own = {"tracker.flow": "open", "tracker.hop": "lake", "tracker.stage": "persist", "tracker.message_id": "m",
           "tracker.origin_at": "2027-01-15T08:00:00Z", "tracker.delivery": "d", "tracker.causation_id": "c",
           "tracker.replay_id": "r", "tracker.digest": "00000000000000ff"}  # fmt: skip
    [event] = told(body([span(own, "internal")], "anything"))
    assert (event["flow"], event["hop"], event["stage"], event["message_id"]) == ("open", "lake", "persist", "m")
    assert (event["origin_at"], event["delivery"]) == (1_800_000_000_000_000, "d")
    assert (event["causation_id"], event["replay_id"], event["digest"]) == ("c", "r", "00000000000000ff")


class TestAccount:
    def test_spans_that_are_not_about_messages_are_left_out(self) -> None:
        """Traces have mostly others."""
        decoded, account = reader().read(body([span({"http.request.method": "GET"}, "server"), span(SENT | ID)]))
        assert (decoded.frame.height, account.spans, account.other, account.seen) == (1, 2, 1, [])

    def test_what_matches_no_flow_is_counted_by_sort(self) -> None:
        """With an id to look for."""
        spans = [span(SENT | ID | {"messaging.destination.name": "bills"}, number=n) for n in range(3)]
        _, account = reader().read(body(spans))
        [seen] = account.seen
        assert (seen.reason, seen.count, seen.sample, seen.sort.destination) == (NO_FLOW, 3, "m-1", "bills")
        assert (seen.sort.service, seen.sort.told) == ("checkout", "send")

    def test_why_a_matching_span_tells_nothing(self) -> None:
        """It failed, or nobody knows what its operation does to a message."""
        odd = span(SENT | ID | {"messaging.operation.type": "browse"})
        _, account = reader().read(body([span(SENT | ID, error=True), odd]))
        assert (account.count(FAILED), account.count(NO_STAGE)) == (1, 1)

    def test_no_span_is_lost(self) -> None:
        """Each is an event, or counted under a reason."""
        spans = [span(SENT | ID), span(SENT), span({}, "server"), span(PROCESSED | ID, "consumer")]
        decoded, account = reader().read(body(spans))
        assert decoded.frame.height + account.other + sum(seen.count for seen in account.seen) == account.spans == 4


class TestWords:
    """What spans say few different things of is kept once each."""

    @pytest.mark.parametrize("different", [2, FEW + 1], ids=["few", "many"])
    def test_few_or_many_say_the_same(self, different: int) -> None:
        """Partition, group and node of each span, however many there are, and none where a span has none."""
        said = [{"messaging.destination.partition.id": str(n % different), "messaging.consumer.group.name": f"g{n}"}
                for n in range(different)]  # fmt: skip
        spans = [span(PROCESSED | ID | more, "consumer") for more in (*said, {})]
        events = told(body(spans, "billing", service_instance_id="pod-1"))
        assert [event.get("partition") for event in events] == [*(f"orders/{n}" for n in range(different)), None]
        assert [event.get("group") for event in events] == [*(f"g{n}" for n in range(different)), None]
        assert {event["node"] for event in events} == {"pod-1"}

    def test_texts_that_are_equal_are_one_word(self) -> None:
        """Also where different bytes say the same, as two encodings of a number do."""
        raw = body([span(PROCESSED | ID | {"messaging.kafka.partition": 5}, "consumer")] * 2, "billing")
        words = reader().read(raw)[0].words["partition"]
        assert words.to_list() == ["orders/5"]
        assert [event["partition"] for event in told(raw)] == ["orders/5"] * 2
        assert worded(["5", "5", None], np.array([0, 1, 2]))[0].to_list() == [0, 0, None]

    @pytest.mark.parametrize("different", [2, FEW + 1], ids=["few", "many"])
    @pytest.mark.parametrize(("destination", "partition"), [(4000, 0), (0, 4000)])
    def test_one_long_text_is_not_joined_to_that_of_every_span(
        self, different: int, destination: int, partition: int
    ) -> None:
        """A kilobyte that is written once and said of thousands of spans would be megabytes. They are refused."""
        said = [{"messaging.message.id": f"m{n}", "messaging.destination.name": "d" * destination + str(n % 3),
                 "messaging.destination.partition.id": "p" * partition + str(n)} for n in range(different)]  # fmt: skip
        own = {"tracker.flow": "orders", "tracker.hop": "billing", "tracker.stage": "ack"}
        decoded, _ = reader().read(body([span(own | one, "consumer") for one in said], "billing"))
        column = decoded.words.get("partition", decoded.frame["partition"])
        assert 256 < max(len(text) for text in column) < 1000
        reasons = prepare([decoded], "", CONTEXT).quarantine["reason"].to_pylist()
        assert len(reasons) == different
        assert all("256" in reason for reason in reasons)

    def test_a_span_may_name_its_node_itself(self) -> None:
        """The instance, where a span has none its host."""
        spans = [span(SENT | ID | more) for more in ({"service.instance.id": "pod-9"}, {})]
        assert [event["node"] for event in told(body(spans, host_name="n-7"))] == ["pod-9", "n-7"]


class TestOdd:
    def test_what_cannot_be_read_goes_to_quarantine_as_json(self) -> None:
        """Text that is no UTF-8, numbers that are none: the event is kept, and the others are taken."""
        bad = span(PROCESSED | ID | {"messaging.kafka.offset": "soon"}, "consumer")
        raw = body([bad, span(PROCESSED | ID | {"cloud.region": "eu-?!"}, "consumer")], "billing")
        decoded, _ = reader().read(raw.replace(b"eu-?!", b"eu-\xff!"))
        batch = prepare([decoded], "", CONTEXT)
        reasons = batch.quarantine["reason"].to_pylist()
        assert batch.answer.accepted == 0
        assert reasons == ["messaging.kafka.offset is no whole number", "cloud.region is no UTF-8"]
        assert batch.quarantine["flow"].to_pylist() == ["orders", "orders"]
        [ours] = batch.reports["sources"].to_pylist()
        assert [(source["flow"], source["hop"], source["stage"]) for source in ours] == [("orders", "billing", "ack")]
        assert '"message_id":"m-1"' in batch.quarantine["raw"].to_pylist()[0]

    def test_rules_for_events_hold_for_spans(self) -> None:
        """An id that is too long, a flow that nobody knows."""
        spans = [span(SENT | {"messaging.message.id": "x" * 600}), span(SENT | ID | {"tracker.flow": "nope",
                                                                                     "tracker.hop": "a"})]  # fmt: skip
        batch = prepare([reader().read(body(spans))[0]], "", CONTEXT)
        assert [error.field for error in batch.answer.errors] == ["message_id", "flow"]

    def test_values_of_other_kinds_are_no_text(self) -> None:
        """A double, bytes or an empty array name no message."""
        odd: tuple[Any, ...] = (1.5, b"x", [])
        _, account = reader().read(body([span(SENT | {"messaging.message.id": said}) for said in odd]))
        assert account.count(NO_ID) == 3

    def test_numbers_and_booleans_are_written_out(self) -> None:
        """As JSON would."""
        said = [0, -7, 2**63 - 1, -(2**63), 1_234_567_890_123, True, False]
        found = told(body([span(SENT | {"messaging.message.id": one}) for one in said]))
        assert [e["message_id"] for e in found] == [str(one).lower() for one in said]

    def test_a_span_without_end_or_ids(self) -> None:
        """Observed when it began; without a span id there is nothing to tell deliveries apart."""
        bare = span(SENT | ID, end=0)
        bare.trace_id = b"short"
        bare.span_id = b""
        [event] = told(body([bare]))
        assert event["observed_at"] == AT // 1000
        assert not {"trace_id", "span_id", "delivery"} & event.keys()

    def test_the_resource_may_stand_behind_its_spans(self) -> None:
        """Protobuf does not promise an order of fields."""
        whole = request([span(SENT | ID)])
        [group] = whole.resource_spans
        first, second = group.SerializeToString(), b""
        del group.scope_spans[:]
        second = group.SerializeToString()
        scopes = first[len(second) :]
        turned = scopes + second
        assert told(b"\x0a" + bytes([len(turned)]) + turned if len(turned) < 128 else _block(turned))

    def test_more_spans_than_a_request_may_have(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Said so; nothing is cut off."""
        monkeypatch.setattr(read, "MAX_LINES", 3)
        spans = [span(SENT | ID, number=n) for n in range(4)]
        assert len(told(body(spans[:3]))) == 3
        with pytest.raises(TooLarge, match="more than 3 spans"):
            reader().read(body(spans))

    def test_json_is_bounded(self) -> None:
        """Three bytes of it can be a span."""
        with pytest.raises(TooLarge, match="send protobuf"):
            protobuf(b" " * (LIMIT + 1))
        _, account = reader().read(protobuf(b'{"resourceSpans": [{"scopeSpans": [{"spans": [{}, {}]}]}]}'))
        assert (account.spans, account.other) == (2, 2)

    @pytest.mark.parametrize("bad", ['[]', '{"resourceSpans": 1}', '{"resourceSpans": [{"scopeSpans": [{"spans": ['
                                     '{"traceId": "xyz", "attributes": [{}]}]}]}]}'])  # fmt: skip
    def test_json_that_is_none(self, bad: str) -> None:
        """Refused, and the reason says where."""
        with pytest.raises(Unreadable, match="no ExportTraceServiceRequest in JSON"):
            protobuf(bad.encode())

    def test_too_many_sorts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A match by something that is new with each message would make each its own sort."""
        monkeypatch.setattr(read, "MAX_KINDS", 2)
        spans = [span(SENT | ID | {"messaging.destination.name": f"reply-{n}"}) for n in range(3)]
        with pytest.raises(TooLarge, match="combinations"):
            reader().read(body(spans))

    @pytest.mark.parametrize(
        "bad", [b"\x0a\xff", b"\x0f\x00", b"\x00", b"\x0c", b"\x0b" * 70, b"\x0a\x80" + b"\x80" * 12]
    )
    def test_damaged_bytes_are_refused(self, bad: bytes) -> None:
        """Lengths that lie, groups that do not end, numbers without end."""
        with pytest.raises(Unreadable):
            reader().read(bad)

    def test_unknown_fields_and_groups_are_passed_over(self) -> None:
        """A later version of OTLP may have them."""
        group = b"\x9b\x06" + b"\x08\x01" + b"\x13\x0d\x00\x00\x00\x00\x14" + b"\x9c\x06"
        assert len(told(body([span(SENT | ID)]) + group + b"\x98\x06\x05" + b"\x9a\x06\x02hi")) == 1


def _block(inside: bytes) -> bytes:
    return b"\x0a" + bytes([len(inside) & 0x7F | 0x80, len(inside) >> 7]) + inside


def test_every_name_is_found() -> None:
    """The hash table holds them all, and those of the specs."""
    made = names.table(["order.id", "service.name"], ["tenant", "messaging.message.id"])
    assert made.extra["order.id"] >= len(names.SLOT)
    assert made.extra["service.name"] == names.SLOT["service"]
    assert (made.lines[:, 0] >= 0).sum() == sum(map(len, names.FIELDS.values())) + 2
    assert set(made.naming) == {names.SLOT["message_id"], names.SLOT["own_id"], names.SLOT["service"],
                                made.extra["order.id"]}  # fmt: skip
