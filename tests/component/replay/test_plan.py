from collections.abc import Sequence

import pytest

from tracker.model.carry import Locator
from tracker.model.spec import FlowSpec, load_spec
from tracker.replay.plan import Checked, Connected, Past, Plan, Wanted, make, with_sample
from tracker.replay.routes import LOG, Keeper, Missing, Way

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
BOTH = Connected({Keeper(LOG, "eu"), Keeper(LOG, "us")}, {"eu", "us"})


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
    left: int = 0,
) -> Plan:
    """The plan for messages that billing lacks."""
    where: dict[Keeper, dict[str, Locator]] = {}
    for copy in copies:
        where.setdefault(Keeper(LOG, copy.hop), {})[copy.message_id] = copy
    wanted = [Wanted(message_id, LOST) for message_id in ids]
    return make(flow or spec(), wanted, where, connected, past or {}, rate, left=left)


def refusal(plan: Plan) -> tuple[str, str]:
    """Why the one message is refused."""
    (one,) = plan.refused
    return one.reason, one.detail


class TestItems:
    def test_a_message_is_sent_to_the_log_that_holds_it(self) -> None:
        """Source and target are the hop that the flow's policy names."""
        (item,) = planned(["m"], [at("m", 7)]).items
        assert (item.ways, item.missing) == ((Way("log", at("m", 7), "eu"),), LOST)

    def test_they_come_in_the_order_of_the_log(self) -> None:
        """So that messages of one partition keep their order among each other."""
        plan = planned(["a", "b", "c"], [at("a", 9), at("b", 2), at("c", 5, partition="t/1")])
        assert [item.message_id for item in plan.items] == ["b", "a", "c"]

    def test_the_first_source_that_has_a_copy_counts(self) -> None:
        """In the order of the policy; a later one steps in where the first has none."""
        plan = planned(["a", "b"], [at("a", 1), at("a", 1, "us"), at("b", 2, "us")], spec("{log: eu}, {log: us}"))
        assert {item.message_id: item.way.target for item in plan.items} == {"a": "eu", "b": "us"}

    def test_attempts_of_earlier_replays_go_on_counting(self) -> None:
        """The number travels with the message, a new replay does not begin anew."""
        (item,) = planned(["m"], [at("m", 7)], past={"m": Past(2)}).items
        assert item.attempt == 2


class TestWays:
    def test_others_stand_by(self) -> None:
        """Each source that holds a copy, in the flow's order: should the first turn out wrong when it is sent."""
        copies = [at("m", 7), at("m", 9, "us")]
        (item,) = planned(["m"], copies, spec("{log: us}, {log: eu}")).items
        assert item.ways == (Way("log", at("m", 9, "us"), "us"), Way("log", at("m", 7), "eu"))

    def test_why_not_the_first(self) -> None:
        """The plan says what is wrong with those that come before."""
        told = planned(["a", "b"], [at("a", 1, "us"), at("b", 2, "us")], spec("{log: eu}, {log: us}")).summary()
        assert told["sources"] == {"log: us": 2}
        assert told["why_these_sources"] == {"log eu: it was never seen to keep this message, or dropped it": 2}

    def test_an_operator_chooses_otherwise(self) -> None:
        """Another source, another target, whatever the flow says."""
        where = {Keeper(LOG, hop): {"m": at("m", 7, hop)} for hop in ("eu", "us")}
        plan = make(spec(), [Wanted("m", LOST)], where, BOTH, {}, source="log:us", to="eu")
        assert [item.ways for item in plan.items] == [(Way("log", at("m", 7, "us"), "eu"),)]

    def test_who_will_see_it(self) -> None:
        """Those who lack it, and those who had it and get it once more."""
        more = SPEC.replace("replay:", "  - {hop: stock, stage: ack, after: eu, within: 10s}\nreplay:")
        plan = planned(["a", "b"], [at("a", 1), at("b", 2)], spec(text=more))
        assert plan.summary()["consumers"] == {"billing": {"missing": 2}, "stock": {"again": 2}}


class TestRefusals:
    def test_never_seen_in_the_log(self) -> None:
        """There is no copy of what never arrived."""
        reason, detail = refusal(planned(["m"], []))
        assert reason == "no_copy"
        assert "eu" in detail

    def test_a_hop_without_connection(self) -> None:
        """Says where to add one; reading alone is not enough."""
        reason, detail = refusal(planned(["m"], [at("m", 7)], connected=Connected({Keeper(LOG, "eu")}, ())))
        assert reason == "not_connected"
        assert "cannot send to eu" in detail
        reason, detail = refusal(planned(["m"], [at("m", 7)], connected=Connected((), {"eu"})))
        assert reason == "not_connected"
        assert "cannot read it, add it to the file that TRACKER_HOPS names" in detail

    def test_a_flow_that_names_no_source(self) -> None:
        """Says what to write into the spec."""
        reason, detail = refusal(planned(["m"], [at("m", 7)], spec("")))
        assert reason == "no_source"
        assert "sources" in detail

    def test_a_peer_that_is_no_peer(self) -> None:
        """What it holds is what is missing nowhere that keeps messages: sent where?"""
        reason, detail = refusal(planned(["m"], [at("m", 7)], spec("{peer: eu}")))
        assert reason == "no_target"
        assert "peer eu" in detail

    def test_every_source_that_failed_is_named(self) -> None:
        """The first gives the reason, the sentence has all."""
        reason, detail = refusal(planned(["m"], [], spec("{peer: eu}, {log: eu}, {snapshot: eu}")))
        assert reason == "no_target"
        assert "log eu: it was never seen to keep" in detail
        assert "snapshot eu: this tracker cannot read it" in detail

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
        plan = make(spec(), [Wanted("m", ())], {Keeper(LOG, "eu"): {"m": at("m", 7)}}, BOTH, {})
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
    assert planned(["m"], [at("m", 7)], flow, left=1).needs_approval is needed
