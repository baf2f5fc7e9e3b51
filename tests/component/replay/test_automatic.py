from pathlib import Path

import pytest
from msgspec import structs

from tests.component.replay.scene import ANN, BOB, POLICY, SECOND, SPEC, Killed, Scene
from tracker.control.incidents import Entry
from tracker.control.replays import Replay
from tracker.replay import Automatic, Selection
from tracker.replay.automatic import LEASE_TTL, Left, Room
from tracker.replay.breaker import FAILURES
from tracker.replay.target import Target


@pytest.fixture
def scene(tmp_path: Path, empty_control: Path):
    """A flow whose policy may send 3 messages an hour by itself, after 30 s."""
    made = Scene(tmp_path, "auto", empty_control)
    made.put(POLICY)
    yield made
    made.close()


def lose(scene: Scene, *ids: str) -> None:
    """They are missing, and their incident is known."""
    scene.lose(*ids)
    scene.count()


def later(scene: Scene, automatic: Automatic, seconds: float = 31) -> list[Replay]:
    """Time passes, everybody watches, the policy looks; its replays by then, oldest first."""
    scene.wait(seconds)
    scene.observe()
    automatic.step()
    return asked(scene)


def asked(scene: Scene) -> list[Replay]:
    """What the policy asked for, oldest first."""
    return [one for one in reversed(scene.replays.list().items) if one.requested_by == "policy"]


def said(scene: Scene) -> list[Entry]:
    """What the policy says in the incident's timeline."""
    return [one for one in scene.control.incidents.timeline("i-1") if one.who == "policy"]


class Shown:
    """What metrics would show."""

    def __init__(self) -> None:
        self.left: Left = {}
        self.room: Room = {}

    def __call__(self, left: Left, room: Room) -> None:
        """What the policy tells at the end of a step."""
        self.left, self.room = left, room


class TestAsk:
    def test_what_stays_missing_is_sent_again(self, scene: Scene) -> None:
        """Nobody asks; it is approved, sent, recovered, and the incident, the replay and the audit log say why."""
        lose(scene, "a", "b")
        [replay] = later(scene, scene.automatic())
        assert (replay.status, replay.approved_by, replay.incident_id) == ("approved", "policy auto", "i-1")
        assert replay.reason == (
            "unacknowledged at billing for longer than 30s, not back by itself; 2 of 3 that the budget of 3/h had left"
        )
        assert scene.states(replay.id) == {"a": "planned", "b": "planned"}
        assert scene.audited(replay.id) == [("policy", "request")]
        worker = scene.worker()
        scene.rounds(worker)
        assert [one for one, _, _ in scene.arrived()] == ["a", "b"]
        scene.consume("a", "b")
        scene.rounds(worker)
        assert scene.replays.get(replay.id).replay.status == "done"

    def test_what_heals_by_itself_is_left_alone(self, scene: Scene) -> None:
        """Only what was open for as long as the flow says, to the moment."""
        lose(scene, "a")
        automatic = scene.automatic()
        assert later(scene, automatic, 29) == []
        scene.consume("a")
        scene.count()
        assert later(scene, automatic, 60) == []
        lose(scene, "b")
        assert [scene.states(one.id) for one in later(scene, automatic, 30)] == [{"b": "planned"}]

    def test_what_trickles_in_goes_together(self, scene: Scene) -> None:
        """One replay per incident and `after`, not one per message."""
        scene.put(POLICY.replace("3/h", "100/h"))
        automatic = scene.automatic()
        lose(scene, "a")
        assert len(later(scene, automatic)) == 1
        for one in "bcd":
            lose(scene, one)
            assert len(later(scene, automatic, 5)) == 1
        assert [scene.states(one.id).keys() for one in later(scene, automatic, 40)] == [{"a"}, {"b", "c", "d"}]

    def test_a_finding_gets_one_replay(self, scene: Scene) -> None:
        """What became of it is a person's to judge: cancelled, parked or refused, it is not asked for again."""
        lose(scene, "a")
        automatic = scene.automatic()
        [replay] = later(scene, automatic)
        scene.replays.cancel(replay.id, BOB)
        assert later(scene, automatic, 600) == [scene.replays.get(replay.id).replay]

    def test_a_person_who_asked_is_respected(self, scene: Scene) -> None:
        """The policy makes no second replay of what somebody sees to, or has seen to."""
        scene.put(POLICY.replace("mode: auto", "mode: approve"))
        lose(scene, "a", "b")
        waits = scene.start("a")
        scene.put(POLICY)
        [replay] = later(scene, scene.automatic())
        assert scene.states(replay.id) == {"b": "planned"}
        assert scene.replays.get(waits).replay.status == "awaiting_approval"

    def test_a_finding_that_opens_again_is_a_new_one(self, scene: Scene) -> None:
        """Recovered by the first replay, then missing once more."""
        lose(scene, "a")
        automatic, worker = scene.automatic(), scene.worker()
        later(scene, automatic)
        scene.rounds(worker)
        scene.consume("a")
        scene.rounds(worker)
        scene.find("a")
        scene.count()
        assert len(later(scene, automatic)) == 2

    def test_one_that_was_cut_off_while_it_was_made_does_not_count(self, scene: Scene) -> None:
        """Somebody's tracker was killed while it made his replay: nothing was sent, and nothing is forgotten."""
        lose(scene, "a")
        scene.replays.plan(Selection(flow="orders"))
        scene.database.fuse = 5
        with pytest.raises(Killed):
            scene.start("a")
        [cut] = scene.replays.list().items
        assert (cut.status, scene.states(cut.id)) == ("planned", {"a": "planned"})
        automatic = scene.automatic()
        assert later(scene, automatic) == []
        scene.wait(600)
        scene.worker().step()
        assert scene.replays.get(cut.id).replay.status == "failed"
        assert len(later(scene, automatic)) == 1

    def test_modes_that_ask_people_are_left_to_people(self, scene: Scene) -> None:
        """Under `approve` and `off` nothing is asked for, however long it takes."""
        lose(scene, "a")
        for mode in ("approve", "'off'"):
            scene.put(POLICY.replace("mode: auto", f"mode: {mode}"))
            assert later(scene, scene.automatic(), 600) == []

    def test_many_are_taken_page_by_page(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that had a replay do not stand in the way of those behind them."""
        monkeypatch.setattr("tracker.replay.automatic.PAGE", 4)
        scene.put(POLICY.replace("3/h", "100/h"))
        ids = [f"m-{n:02}" for n in range(18)]
        for one in ids:
            scene.lose(one)
            scene.wait(0.001)
        scene.count()
        automatic = scene.automatic()
        for _ in range(8):
            later(scene, automatic)
        taken = [one for replay in asked(scene) for one in scene.states(replay.id)]
        assert sorted(taken) == ids


class TestLeave:
    def test_the_budget_is_kept(self, scene: Scene) -> None:
        """Three an hour, whoever asks how often; the rest waits until an hour has passed, and that is told once."""
        shown = Shown()
        lose(scene, *"abcde")
        automatic = scene.automatic(shown=shown)
        assert [len(scene.states(one.id)) for one in later(scene, automatic)] == [3]
        for _ in range(5):
            assert len(later(scene, automatic)) == 1
        assert shown.left == {("orders", "budget"): 2}
        assert shown.room == {("orders",): 0}
        assert [one.what.partition(":")[0] for one in said(scene)] == ["has used up the flow's `budget`"]
        assert len(later(scene, scene.automatic("another"), LEASE_TTL / SECOND + 1)) == 1
        assert [len(scene.states(one.id)) for one in later(scene, automatic, 3600)] == [3, 2]
        assert len(said(scene)) == 1

    @pytest.mark.parametrize("kind", ["divergent", "dead_lettered", "under_replicated"])
    def test_kinds_that_need_a_person(self, scene: Scene, kind: str) -> None:
        """Counted, and told once with what to do."""
        shown = Shown()
        scene.lose("a")
        scene.find("a", kind=kind)
        scene.count()
        automatic = scene.automatic(shown=shown)
        assert later(scene, automatic) == later(scene, automatic) == []
        assert shown.left == {("orders", "kind"): 1}
        [line] = said(scene)
        assert "tracker replay orders --incident i-1" in line.what
        scene.put(POLICY.replace("mode: auto", f"mode: auto, kinds: [{kind}]"))
        assert len(later(scene, automatic)) == 1

    def test_a_message_that_is_wrong_elsewhere_too(self, scene: Scene) -> None:
        """Billing buried it, stock lacks it: sent again it would come to both, so a person looks at it."""
        lose(scene, "a", "b")
        scene.found["buried"] = structs.replace(
            scene.found["a"], finding_id="f-2", hop="shipping", kind="dead_lettered", incident="i-2"
        )
        [replay] = later(scene, scene.automatic())
        assert scene.states(replay.id) == {"b": "planned"}

    def test_what_follows_from_it_is_no_kind_of_its_own(self, scene: Scene) -> None:
        """Lost at the log, and so unacknowledged behind it: `kinds: lost` is enough."""
        scene.put(POLICY.replace("mode: auto", "mode: auto, kinds: lost"))
        scene.lose("a")
        scene.find("a", kind="lost", hop="kafka")
        scene.found["a"] = structs.replace(scene.found["a"], stage="persist")
        scene.count()
        scene.found["behind"] = structs.replace(
            scene.found["a"], finding_id="f-2", hop="billing", stage="ack", kind="unacknowledged", cause="kafka:persist"
        )
        assert len(later(scene, scene.automatic())) == 1
        assert scene.replays.plan(Selection(flow="orders")).refused[0].reason == "busy"

    @pytest.mark.parametrize("announced", [True, False])
    def test_nothing_is_sent_into_the_dark(self, scene: Scene, announced: bool) -> None:
        """Nobody watches the target, or nobody has for a minute; when he is back it goes on."""
        shown = Shown()
        lose(scene, "a")
        scene.announced = announced
        scene.wait(90)
        automatic = scene.automatic(shown=shown)
        automatic.step()
        assert (asked(scene), shown.left) == ([], {("orders", "blind"): 1})
        assert "not watched" in said(scene)[0].what
        scene.announced = True
        assert len(later(scene, automatic)) == 1

    def test_an_open_circuit_is_left_alone(self, scene: Scene) -> None:
        """Until the target takes messages again."""
        shown, target = Shown(), Target("kafka", 100.0, lambda: scene.now / SECOND, lambda low, high: high)
        breaker = target.breaker
        lose(scene, "a")
        automatic = scene.automatic(targets={"kafka": target}, shown=shown)
        breaker.record(0, FAILURES, "no leader")
        scene.wait(27)
        breaker.record(0, 1, "no leader")
        assert (later(scene, automatic, 4), shown.left) == ([], {("orders", "circuit"): 1})
        breaker.record(1, 0)
        assert len(later(scene, automatic)) == 1

    def test_doubt_comes_first(self, scene: Scene) -> None:
        """What it sent is not known to have arrived: another tracker's circuit may be open."""
        scene.put(POLICY.replace("3/h", "100/h"))
        lose(scene, "a")
        automatic, worker = scene.automatic(), scene.worker()
        later(scene, automatic)
        scene.port.refuses = True
        scene.rounds(worker)
        lose(scene, "b")
        shown = Shown()
        assert len(later(scene, scene.automatic("another", shown=shown), LEASE_TTL / SECOND + 1)) == 1
        assert shown.left == {("orders", "in_doubt"): 1}

    def test_a_pause_holds_the_policy_too(self, scene: Scene) -> None:
        """Somebody stopped what it sends in this incident: it does not go on with the next ones."""
        lose(scene, "a")
        automatic = scene.automatic()
        [replay] = later(scene, automatic)
        scene.worker().step()
        scene.replays.pause(replay.id, ANN)
        lose(scene, "b")
        assert len(later(scene, automatic, 60)) == 1
        scene.replays.resume(replay.id, ANN)
        assert len(later(scene, automatic)) == 2

    def test_what_a_plan_refuses(self, scene: Scene) -> None:
        """No copy, or no attempt left: told, and looked at again in case that it changes."""
        shown = Shown()
        lose(scene, "a")
        events = scene.events.pop("a")
        automatic = scene.automatic(shown=shown)
        assert (later(scene, automatic), shown.left) == ([], {("orders", "no_copy"): 1})
        assert "no_copy" in said(scene)[0].what
        scene.events["a"] = events
        assert len(later(scene, automatic)) == 1


class TestTogether:
    def test_one_tracker_acts(self, scene: Scene) -> None:
        """The other one takes over when the lease has run out, and shows nothing until then."""
        shown = Shown()
        lose(scene, *"abcd")
        first, second = scene.automatic("first"), scene.automatic("second", shown=shown)
        first.step()
        assert later(scene, second, 1) == []
        assert shown.room == {}
        assert len(later(scene, second, LEASE_TTL / SECOND)) == 1
        assert shown.room == {("orders",): 3}

    def test_one_that_stood_still_does_nothing(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """It looked, was frozen until another one had looked too, and left it, and goes on: its lease is gone."""
        lose(scene, "a")
        first, second = scene.automatic("first"), scene.automatic("second")
        scene.wait(31)
        scene.observe()
        look = scene.findings

        def frozen(*arguments, **chosen):
            monkeypatch.setattr(scene, "findings", look)
            scene.announced = False
            later(scene, second, LEASE_TTL / SECOND + 1)
            scene.announced = True
            return look(*arguments, **chosen)

        monkeypatch.setattr(scene, "findings", frozen)
        first.step()
        assert asked(scene) == []

    @pytest.mark.parametrize("changes", ["budget", "mode", "person"])
    def test_what_changed_since_it_looked(self, scene: Scene, changes: str) -> None:
        """The budget was used, the mode was changed, somebody asked: all is looked at again before it is asked for."""
        lose(scene, "a", "b", "c")
        scene.wait(31)
        scene.observe()

        def meanwhile() -> None:
            scene.port.reading = lambda: None
            match changes:
                case "budget":
                    scene.lose("y", "z")
                    scene.start("y", "z")
                case "mode":
                    scene.put(POLICY.replace("mode: auto", "mode: 'off'"))
                case "person":
                    scene.start("a")

        scene.port.reading = meanwhile
        scene.automatic().step()
        taken = {one for replay in asked(scene) for one in scene.states(replay.id)}
        assert taken == {"budget": {"a"}, "mode": set(), "person": {"b", "c"}}[changes]

    @pytest.mark.parametrize("moment", range(8))
    def test_killed_at_any_step(self, scene: Scene, moment: int) -> None:
        """All of the replay is there or nothing of it; the next tracker forgets none and doubles none."""
        lose(scene, "a", "b")
        scene.wait(31)
        scene.observe()
        scene.database.fuse = moment
        try:
            scene.automatic("first").step()
        except Killed:
            assert [scene.states(one.id) for one in asked(scene)] in ([], [{"a": "planned", "b": "planned"}])
            assert all(one.status == "approved" for one in asked(scene))
        scene.database.fuse = None
        [replay] = later(scene, scene.automatic("second"), LEASE_TTL / SECOND + 1)
        assert scene.states(replay.id) == {"a": "planned", "b": "planned"}


class TestPeople:
    def test_within_kinds_and_budget_nobody_else_is_asked(self, scene: Scene) -> None:
        """And what they send so counts: the policy has less left."""
        lose(scene, *"abcd")
        plan = scene.replays.plan(Selection(flow="orders", message_ids=("a", "b"))).summary()
        assert (plan["needs_approval"], plan["why_approval"], plan["budget"], plan["budget_left"]) == (
            False, "", "3/h", 3)  # fmt: skip
        replay = scene.replays.get(scene.start("a", "b")).replay
        assert (replay.status, replay.approved_by) == ("approved", "policy auto")
        [own] = later(scene, scene.automatic())
        assert len(scene.states(own.id)) == 1

    def test_beyond_the_budget_a_second_person_is(self, scene: Scene) -> None:
        """Which the plan says before, and the replay after; what he allows is not the budget's."""
        lose(scene, *"abcd")
        why = "4 messages, and 3 of the flow's `budget` of 3/h is left"
        plan = scene.replays.plan(Selection(flow="orders")).summary()
        assert (plan["needs_approval"], plan["why_approval"], plan["budget_left"]) == (True, why, 3)
        replay = scene.replays.get(scene.start()).replay
        assert (replay.status, replay.detail, replay.approved_by) == ("awaiting_approval", why, "")
        scene.replays.approve(replay.id, BOB)
        assert scene.replays.plan(Selection(flow="orders")).left == 3

    def test_beyond_the_kinds_a_second_person_is(self, scene: Scene) -> None:
        """With the kinds that the flow lets through."""
        scene.lose("a")
        scene.find("a", kind="dead_lettered")
        replay = scene.replays.get(scene.start()).replay
        why = "dead_lettered: not among the flow's `kinds` (unacknowledged, lost)"
        assert (replay.status, replay.detail) == ("awaiting_approval", why)

    def test_two_who_ask_at_once_share_the_budget(self, scene: Scene) -> None:
        """Each plan saw three left; the second one to be asked for awaits approval."""
        lose(scene, *"abcd")

        def meanwhile() -> None:
            scene.port.reading = lambda: None
            scene.service().create(Selection(flow="orders", message_ids=("a", "b")), BOB)

        scene.port.reading = meanwhile
        replay = scene.replays.get(scene.start("c", "d")).replay
        assert (replay.status, replay.plan["needs_approval"]) == ("awaiting_approval", False)
        assert replay.detail == "2 messages, and 1 of the flow's `budget` of 3/h is left"

    def test_under_approve_and_off_no_budget_is_shown(self, scene: Scene) -> None:
        """They have none."""
        lose(scene, "a")
        for mode, why in (("approve", "the flow's mode is `approve`"), ("'off'", "")):
            scene.put(SPEC.replace("MODE", mode))
            told = scene.replays.plan(Selection(flow="orders")).summary()
            assert (told["why_approval"], told["budget"], told["budget_left"]) == (why, "", None)
