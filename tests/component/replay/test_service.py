from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from tests.component.replay.scene import ANN, BOB, SPEC, Scene
from tracker.control.errors import Conflict, Forbidden, Invalid, NotFound
from tracker.control.tokens import Principal
from tracker.model.carry import Copy, Locator, Source
from tracker.model.event import Stage
from tracker.replay import Keeper, Replays, Selection

READER = Principal("3", "eve", frozenset({"read"}))
ALL = Selection(flow="orders")


class TestPlan:
    def test_a_dry_run_stores_and_sends_nothing(self, guarded: Scene) -> None:
        """It shows what would be sent, having looked at copies."""
        guarded.lose("a", "b", "c")
        plan = guarded.replays.plan(ALL)
        assert [item.message_id for item in plan.items] == ["a", "b", "c"]
        assert plan.checked is not None
        assert (plan.checked.asked, plan.size) == (3, 9)
        assert guarded.replays.list().items == []
        assert guarded.arrived() == []

    def test_selection_narrows(self, guarded: Scene) -> None:
        """By hop, kind, incident and message id, each."""
        guarded.lose("a", "b")
        guarded.find("b", hop="stock")
        for narrow in ({"hop": "billing"}, {"message_ids": ("a",)}):
            plan = guarded.replays.plan(Selection(flow="orders", **narrow))
            assert [item.message_id for item in plan.items] == ["a"]
        assert guarded.replays.plan(Selection(flow="orders", incident="i-2")).items == ()
        assert guarded.replays.plan(Selection(flow="orders", kind="lost")).items == ()

    def test_selection_by_what_events_carry(self, guarded: Scene) -> None:
        """By key (hashed as it is stored), the reason of a dead letter, attributes; all that is given has to fit."""
        guarded.lose("a", "b", "c")
        [seen] = guarded.events["b"]
        guarded.events["b"] += [
            structs.replace(seen, stage=Stage.dead_letter, reason="poison", key="", attributes={"team": "x"})
        ]
        guarded.events["c"] = [structs.replace(guarded.events["c"][0], key="other")]

        def chosen(**narrow: Any) -> list[str]:
            return [one.message_id for one in guarded.replays.plan(Selection(flow="orders", **narrow)).items]

        assert chosen(key="k") == ["a", "b"]
        assert chosen(dropped_as="poison") == chosen(attributes={"team": "x"}) == ["b"]
        assert chosen(key="other", dropped_as="poison") == chosen(attributes={"team": "y"}) == []

    def test_selection_by_origin(self, guarded: Scene) -> None:
        """From a moment on, until before another."""
        guarded.lose("a", "b", "c")
        for one, origin in (("a", 10), ("b", 20), ("c", 30)):
            guarded.found[one] = structs.replace(guarded.found[one], origin_at=origin)

        def chosen(since: int | None = None, until: int | None = None) -> list[str]:
            plan = guarded.replays.plan(Selection(flow="orders", since=since, until=until))
            return [one.message_id for one in plan.items]

        assert chosen(since=20) == ["b", "c"]
        assert chosen(until=20) == ["a"]
        assert chosen(since=20, until=30) == ["b"]

    def test_an_operator_chooses_otherwise(self, guarded: Scene) -> None:
        """A source or target that the flow does not have is told, with what there is."""
        guarded.lose("a")
        with pytest.raises(Invalid, match="tape:kafka"):
            guarded.replays.plan(Selection(flow="orders", source="tape:kafka"))
        with pytest.raises(Invalid, match="mars"):
            guarded.replays.plan(Selection(flow="orders", to="mars"))
        [item] = guarded.replays.plan(Selection(flow="orders", source="log:kafka", to="kafka")).items
        assert item.way.target == "kafka"
        [refused] = guarded.replays.plan(Selection(flow="orders", source="snapshot:kafka")).refused
        assert refused.reason == "not_connected"

    def test_a_source_that_knows_itself_and_is_away(self, guarded: Scene) -> None:
        """A plan can do without it: nothing of it is promised."""

        class Away:
            """An archive whose disk is gone."""

            def find(self, flow: str, message_ids: Sequence[str]) -> list[Locator]:
                raise ConnectionError("no such disk")

            def fetch(self, locators: Sequence[Locator]) -> list[Copy]:
                raise ConnectionError("no such disk")

            def close(self) -> None:
                """Nothing to let go of."""

        guarded.lose("a")
        guarded.put(SPEC.replace("MODE", "approve").replace("[log: kafka]", "[snapshot: kafka, log: kafka]"))
        sources: dict[Keeper, Source] = {Keeper("snapshot", "kafka"): Away(), Keeper("log", "kafka"): guarded.port}
        replays = Replays(guarded, guarded.control, sources, {"kafka": guarded.port}, lambda: guarded.now)
        told = replays.plan(ALL).summary()
        assert told["sources"] == {"log: kafka": 1}
        assert told["why_these_sources"] == {"snapshot kafka: it does not answer now: no such disk": 1}

    def test_many_findings_come_in_pages(self, guarded: Scene) -> None:
        """More than the store gives at once."""
        guarded.lose(*[f"m-{n:04}" for n in range(2_500)])
        assert len(guarded.replays.plan(ALL).items) == 2_500

    def test_wrong_copies_show_in_the_sample(self, guarded: Scene) -> None:
        """Before anybody approves anything."""
        guarded.lose("a")
        guarded.events["a"] = [structs.replace(event, digest="f" * 16) for event in guarded.events["a"]]
        plan = guarded.replays.plan(ALL)
        assert plan.checked is not None
        assert sum(plan.checked.wrong.values()) == 1

    def test_an_unreadable_source_leaves_the_plan_unchecked(self, guarded: Scene) -> None:
        """The plan still says what it knows."""
        guarded.lose("a")
        guarded.port.unreadable = True
        plan = guarded.replays.plan(ALL)
        assert (len(plan.items), plan.checked, plan.size) == (1, None, None)

    @pytest.mark.parametrize("rate", [0, -1, 1001, float("nan"), float("inf")])
    def test_a_rate_beyond_the_flows_is_refused(self, guarded: Scene, rate: float) -> None:
        """Whoever wants more changes the spec, where it is seen."""
        with pytest.raises(Invalid, match="1000"):
            guarded.replays.plan(ALL, rate)

    def test_an_unknown_flow(self, guarded: Scene) -> None:
        """Named."""
        with pytest.raises(NotFound, match="nowhere"):
            guarded.replays.plan(Selection(flow="nowhere"))


class TestCreate:
    def test_it_waits_for_a_second_person(self, guarded: Scene) -> None:
        """With every message, and an entry in the audit log."""
        guarded.lose("a", "b")
        shown = guarded.replays.create(ALL, ANN, "billing was down")
        assert (shown.replay.status, shown.replay.requested_by, shown.messages["planned"]) == (
            "awaiting_approval",
            "ann",
            2,
        )
        assert shown.replay.plan["messages"] == 2
        (entry,) = guarded.control.audit.entries(subject=f"replay/{shown.replay.id}").items
        assert (entry.who, entry.what, entry.why, entry.detail["messages"]) == ("ann", "request", "billing was down", 2)

    def test_under_auto_it_is_approved_at_once(self, scene: Scene) -> None:
        """By the policy, which is named."""
        scene.lose("a")
        replay = scene.replays.get(scene.start()).replay
        assert (replay.status, replay.approved_by) == ("approved", "policy auto")

    def test_under_off_there_is_none(self, scene: Scene) -> None:
        """A dry run still shows what there would be."""
        scene.lose("a")
        scene.put(SPEC.replace("MODE", "'off'"))
        assert len(scene.replays.plan(ALL).items) == 1
        with pytest.raises(Conflict, match="off"):
            scene.start()

    def test_nothing_to_send_says_why(self, scene: Scene) -> None:
        """With the reasons of what was refused."""
        with pytest.raises(Conflict, match="no open finding"):
            scene.start()
        scene.lose("a")
        scene.consume("a")
        with pytest.raises(Conflict, match="no finding of it is open"):
            scene.start("a")

    def test_a_message_is_in_one_replay_at_a_time(self, guarded: Scene) -> None:
        """The second one is told which has it; once that is cancelled the way is free."""
        guarded.lose("a")
        first = guarded.start()
        with pytest.raises(Conflict, match=first):
            guarded.start()
        guarded.replays.cancel(first, BOB)
        assert guarded.start() != first

    def test_without_the_scope_nobody_asks(self, scene: Scene) -> None:
        """Nor approves, pauses, resumes or cancels."""
        scene.lose("a")
        with pytest.raises(Forbidden):
            scene.start(by=READER)
        replay_id = scene.start()
        for act in (scene.replays.approve, scene.replays.pause, scene.replays.resume, scene.replays.cancel):
            with pytest.raises((Forbidden, Conflict)):
                act(replay_id, READER)
        assert scene.replays.get(replay_id).replay.status == "approved"


class TestApprove:
    def test_another_person_approves(self, guarded: Scene) -> None:
        """And is named, in the replay and in the audit log."""
        guarded.lose("a")
        replay_id = guarded.start()
        shown = guarded.replays.approve(replay_id, BOB, "checked with billing")
        assert (shown.replay.status, shown.replay.approved_by) == ("approved", "bob")
        assert guarded.audited(replay_id) == [("ann", "request"), ("bob", "approve")]

    def test_nobody_approves_his_own(self, guarded: Scene) -> None:
        """Not with another token of the same name either."""
        guarded.lose("a")
        replay_id = guarded.start()
        for same in (ANN, Principal("9", "ann", frozenset({"admin"}))):
            with pytest.raises(Forbidden, match="somebody else"):
                guarded.replays.approve(replay_id, same)

    def test_an_insecure_service_knows_no_persons(self, guarded: Scene) -> None:
        """There it stays a step of its own, and is in the audit log as one."""
        guarded.lose("a")
        replay_id = guarded.start()
        assert guarded.replays.get(replay_id).replay.status == "awaiting_approval"
        guarded.service(insecure=True).approve(replay_id, ANN)
        assert guarded.audited(replay_id) == [("ann", "request"), ("ann", "approve")]

    def test_twice_is_once(self, guarded: Scene) -> None:
        """One entry in the audit log."""
        guarded.lose("a")
        replay_id = guarded.start()
        guarded.replays.approve(replay_id, BOB)
        guarded.replays.approve(replay_id, BOB)
        assert guarded.audited(replay_id).count(("bob", "approve")) == 1

    def test_what_does_not_wait_cannot_be_approved(self, guarded: Scene) -> None:
        """Cancelled ones, ended ones."""
        guarded.lose("a")
        replay_id = guarded.start()
        guarded.replays.cancel(replay_id, ANN)
        with pytest.raises(Conflict, match="cancelled"):
            guarded.replays.approve(replay_id, BOB)


class TestPause:
    def test_pause_does_not_lead_around_approval(self, guarded: Scene) -> None:
        """One that waits can neither be paused nor resumed."""
        guarded.lose("a")
        replay_id = guarded.start()
        for act in (guarded.replays.pause, guarded.replays.resume):
            with pytest.raises(Conflict):
                act(replay_id, ANN)
        assert guarded.replays.get(replay_id).replay.status == "awaiting_approval"

    def test_an_approved_one_cannot_be_resumed(self, scene: Scene) -> None:
        """Only what was paused."""
        scene.lose("a")
        with pytest.raises(Conflict, match="paused"):
            scene.replays.resume(scene.start(), ANN)


class TestList:
    def test_by_status_flow_and_incident(self, guarded: Scene) -> None:
        """Newest first, in pages."""
        guarded.lose("a", "b")
        first = guarded.start("a")
        guarded.wait(1)
        second = guarded.replays.create(Selection(flow="orders", incident="i-1"), BOB).replay.id
        assert [one.id for one in guarded.replays.list().items] == [second, first]
        assert [one.id for one in guarded.replays.list(incident="i-1").items] == [second]
        assert guarded.replays.list(flow="other").items == []
        assert guarded.replays.list(status=["done"]).items == []
        page = guarded.replays.list(limit=1)
        assert [one.id for one in guarded.replays.list(limit=1, cursor=page.cursor).items] == [first]

    def test_messages_of_one(self, guarded: Scene) -> None:
        """In the order of sending; of a replay that exists."""
        guarded.lose("a", "b")
        items = guarded.replays.messages(guarded.start()).items
        assert [one.message_id for one in items] == ["a", "b"]
        with pytest.raises(NotFound):
            guarded.replays.messages("r-none")


def test_a_key_that_was_asked_for_is_kept_hashed(scene: Scene) -> None:
    """It may name a person; who looks at a replay, and the audit log for ever, has its hash, as the ledger has."""
    scene.key = lambda one: "ann@example.com"
    scene.lose("a")
    replay = scene.replays.create(Selection(flow="orders", key="ann@example.com"), ANN).replay
    kept = f"{replay} {scene.control.audit.entries().items}"
    assert "ann@example.com" not in kept
    assert kept.count(replay.selection["key"]) == 2
