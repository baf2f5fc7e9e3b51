from collections.abc import Sequence

import pytest

from tracker.model.carry import Locator
from tracker.model.spec import FlowSpec, load_spec
from tracker.replay.plan import Checked, Connected, Missing, Past, Plan, Wanted, make, with_sample

SPEC = """
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: eu, stage: persist, after: checkout, within: 5s}
  - {hop: us, stage: replicate, after: eu, within: 20s}
  - {hop: billing, stage: ack, after: eu, within: 10s}
replay: {sources: [SOURCES], mode: approve, rate: 100/s, max_attempts: 3}
"""
LOST = (Missing("billing", "ack", "unacknowledged"),)
BOTH = Connected({"eu", "us"}, {"eu", "us"})


def spec(sources: str = "{log: eu}", text: str = SPEC) -> FlowSpec:
    """The flow with these sources."""
    return load_spec(text.replace("SOURCES", sources))


def at(message_id: str, offset: int, hop: str = "eu", partition: str = "t/0") -> Locator:
    """Where a log holds a message."""
    return Locator(message_id, hop, partition, offset)


def planned(
    ids: Sequence[str],
    copies: Sequence[Locator],
    flow: FlowSpec | None = None,
    connected: Connected = BOTH,
    past: dict[str, Past] | None = None,
    rate: float | None = None,
) -> Plan:
    """The plan for messages that billing lacks."""
    where: dict[str, dict[str, Locator]] = {}
    for copy in copies:
        where.setdefault(copy.hop, {})[copy.message_id] = copy
    wanted = [Wanted(message_id, LOST) for message_id in ids]
    return make(flow or spec(), wanted, where, connected, past or {}, rate)


def refusal(plan: Plan) -> tuple[str, str]:
    """Why the one message is refused."""
    (one,) = plan.refused
    return one.reason, one.detail


class TestItems:
    def test_a_message_is_sent_to_the_log_that_holds_it(self) -> None:
        """Source and target are the hop that the flow's policy names."""
        (item,) = planned(["m"], [at("m", 7)]).items
        assert (item.source, item.locator, item.target, item.missing) == ("log", at("m", 7), "eu", LOST)

    def test_they_come_in_the_order_of_the_log(self) -> None:
        """So that messages of one partition keep their order among each other."""
        plan = planned(["a", "b", "c"], [at("a", 9), at("b", 2), at("c", 5, partition="t/1")])
        assert [item.message_id for item in plan.items] == ["b", "a", "c"]

    def test_the_first_source_that_has_a_copy_counts(self) -> None:
        """In the order of the policy; a later one steps in where the first has none."""
        plan = planned(["a", "b"], [at("a", 1), at("a", 1, "us"), at("b", 2, "us")], spec("{log: eu}, {log: us}"))
        assert {item.message_id: item.target for item in plan.items} == {"a": "eu", "b": "us"}

    def test_attempts_of_earlier_replays_go_on_counting(self) -> None:
        """The number travels with the message, a new replay does not begin anew."""
        (item,) = planned(["m"], [at("m", 7)], past={"m": Past(2)}).items
        assert item.attempt == 2


class TestRefusals:
    def test_never_seen_in_the_log(self) -> None:
        """There is no copy of what never arrived."""
        reason, detail = refusal(planned(["m"], []))
        assert reason == "no_copy"
        assert "eu" in detail

    def test_a_hop_without_connection(self) -> None:
        """Says where to add one; reading alone is not enough."""
        reason, detail = refusal(planned(["m"], [at("m", 7)], connected=Connected({"eu"}, ())))
        assert reason == "not_connected"
        assert "replay" in detail

    def test_a_flow_that_names_no_source(self) -> None:
        """Says what to write into the spec."""
        reason, detail = refusal(planned(["m"], [at("m", 7)], spec("")))
        assert reason == "no_source"
        assert "sources" in detail

    def test_a_kind_of_source_that_cannot_be_read_yet(self) -> None:
        """Named as what it is, never passed over in silence."""
        assert refusal(planned(["m"], [at("m", 7)], spec("{peer: us}")))[0] == "unsupported"

    def test_every_source_that_failed_is_named(self) -> None:
        """The first gives the reason, the sentence has all."""
        reason, detail = refusal(planned(["m"], [], spec("{peer: us}, {log: eu}")))
        assert reason == "unsupported"
        assert "log eu" in detail

    def test_all_attempts_used_up(self) -> None:
        """A poisonous message is not sent for ever, whoever asks."""
        assert refusal(planned(["m"], [at("m", 7)], past={"m": Past(3)}))[0] == "exhausted"

    def test_another_replay_is_at_it(self) -> None:
        """Named, so that one can wait for it or cancel it."""
        reason, detail = refusal(planned(["m"], [at("m", 7)], past={"m": Past(1, "r-9")}))
        assert reason == "busy"
        assert "r-9" in detail

    def test_nothing_is_missing(self) -> None:
        """Asked for by id, but without an open finding: sending it would only make a duplicate."""
        plan = make(spec(), [Wanted("m", ())], {"eu": {"m": at("m", 7)}}, BOTH, {})
        assert refusal(plan)[0] == "nothing_missing"


class TestWhole:
    def test_the_rate_is_at_most_the_flows_own(self) -> None:
        """A lower one may be asked for."""
        assert planned(["m"], [at("m", 7)]).rate == 100
        assert planned(["m"], [at("m", 7)], rate=10).rate == 10
        assert planned(["m"], [at("m", 7)], rate=1000).rate == 100

    def test_time_and_size_are_estimated(self) -> None:
        """Time by the rate; bytes by the mean of the copies that were looked at, unknown without."""
        plan = planned([f"m{n}" for n in range(50)], [at(f"m{n}", n) for n in range(50)])
        assert (plan.seconds, plan.size) == (0.5, None)
        assert with_sample(plan, Checked(3, (100, 200), {"gone": 1})).size == 50 * 150

    def test_the_follow_up_is_the_longest_deadline_and_some_patience(self) -> None:
        """25 s to the peer region, 30 s of patience."""
        assert planned([], []).follow_up == 55_000_000

    def test_order_is_a_risk_only_where_it_is_asked_for(self) -> None:
        """Names the checkpoint that asks for it."""
        ordered = spec(text=SPEC.replace("after: eu, within: 10s", "after: eu, within: 10s, order: key"))
        assert "key at billing:ack" in planned(["m"], [at("m", 7)], ordered).order_risk
        assert planned(["m"], [at("m", 7)]).order_risk == ""

    def test_the_summary_counts_and_names_examples(self) -> None:
        """What a dry run prints."""
        plan = with_sample(planned(["a", "b", "c"], [at("a", 1), at("b", 2)]), Checked(2, (10, 10)))
        told = plan.summary()
        assert (told["messages"], told["bytes"], told["targets"], told["sources"]) == (2, 20, ["eu"], {"log: eu": 2})
        assert told["refused"]["no_copy"]["examples"] == ["c"]
        assert told["integrity"] == {"checked": 2, "right": 2, "wrong": {}}
        assert told["needs_approval"] is True


@pytest.mark.parametrize(("mode", "needed"), [("auto", False), ("approve", True), ("off", False)])
def test_only_one_policy_asks_for_a_second_person(mode: str, needed: bool) -> None:
    """`off` refuses altogether, which is the service's to say."""
    flow = spec(text=SPEC.replace("mode: approve", f"mode: '{mode}'"))
    assert planned(["m"], [at("m", 7)], flow).needs_approval is needed
