from itertools import pairwise

import pytest

from tests.component.replay.scene import BOB, SPEC, Killed, Scene
from tracker.replay import Selection
from tracker.replay.limits import Limits

LEASE_S = Limits().lease / 1_000_000
TRAVEL_S = Limits().travel / 1_000_000
FOLLOW_UP_S = 45
"""The flow's longest deadline (15 s) and 30 s of patience."""


def killed(*_: object) -> None:
    """What a kill looks like from inside."""
    raise Killed


def kill(scene: Scene, moment: str) -> str:
    """A tracker sends `a` and is killed `before` or `after` the broker has it; the replay's id."""
    scene.lose("a")
    replay_id = scene.start()
    setattr(scene.port, moment, killed)
    with pytest.raises(Killed):
        scene.worker("first").step()
    setattr(scene.port, moment, lambda copies: None)
    return replay_id


class TestRecovery:
    def test_recovered_is_what_the_finding_says(self, scene: Scene) -> None:
        """Not that it was sent; then the replay is done."""
        scene.lose("a", "b")
        replay_id = scene.start()
        worker = scene.worker()
        scene.rounds(worker)
        assert scene.replays.get(replay_id).replay.status == "running"
        scene.consume("a", "b")
        worker.step()
        shown = scene.replays.get(replay_id)
        assert (shown.replay.status, shown.messages["recovered"]) == ("done", 2)
        assert shown.replay.finished_at == scene.now

    def test_what_did_not_help_is_sent_again_and_then_parked(self, scene: Scene) -> None:
        """Three attempts, each given its time; then somebody has to look at it."""
        scene.lose("a")
        replay_id = scene.start()
        worker = scene.worker()
        began = scene.now
        for _ in range(60):
            scene.rounds(worker, 1, 5)
            scene.observe()
        assert [attempt for _, _, attempt in scene.arrived()] == [1, 2, 3]
        times = [(record.appended_at - began) / 1e6 for record in scene.records()[1:]]
        assert all(later - earlier >= FOLLOW_UP_S for earlier, later in pairwise(times))
        assert scene.states(replay_id) == {"a": "parked"}
        assert "no attempt is left" in scene.errors(replay_id)["a"]
        assert scene.replays.get(replay_id).replay.status == "done"

    def test_in_the_dark_it_is_not_sent_again(self, scene: Scene) -> None:
        """Billing's collector is silent: the message may have been processed long ago."""
        scene.lose("a")
        replay_id = scene.start()
        scene.rounds(scene.worker(), 30, 20)
        assert len(scene.arrived()) == 1
        assert scene.states(replay_id) == {"a": "sent"}

    @pytest.mark.parametrize(("status", "word"), [("withdrawn", "withdrawn"), ("abandoned", "given up")])
    def test_what_was_sent_in_vain_is_parked_with_its_reason(self, scene: Scene, status: str, word: str) -> None:
        """Consumers may have got it twice: that is said, and it is no recovery."""
        scene.lose("a")
        replay_id = scene.start()
        worker = scene.worker()
        scene.rounds(worker)
        scene.find("a", status)
        worker.step()
        assert scene.states(replay_id) == {"a": "parked"}
        assert word in scene.errors(replay_id)["a"]

    def test_a_paused_or_cancelled_replay_is_still_followed_up(self, scene: Scene) -> None:
        """What was sent can recover whatever becomes of the rest."""
        scene.lose("a")
        replay_id = scene.start()
        worker = scene.worker()
        scene.rounds(worker)
        scene.replays.cancel(replay_id, BOB)
        scene.consume("a")
        scene.worker("after a restart").step()
        assert scene.states(replay_id) == {"a": "recovered"}

    def test_a_flow_deleted_meanwhile(self, scene: Scene) -> None:
        """What was sent is followed up by the last spec."""
        scene.lose("a")
        replay_id = scene.start()
        worker = scene.worker()
        scene.rounds(worker)
        scene.control.flows.delete("orders", scene.now)
        scene.consume("a")
        worker.step()
        assert scene.states(replay_id) == {"a": "recovered"}

    def test_terms_are_those_of_the_request(self, scene: Scene) -> None:
        """A spec that allows less now does not change what was approved."""
        scene.lose("a")
        replay_id = scene.start()
        scene.put(SPEC.replace("MODE", "auto").replace("max_attempts: 3", "max_attempts: 1"))
        worker = scene.worker()
        for _ in range(15):
            scene.rounds(worker, 1, 5)
            scene.observe()
        assert [attempt for _, _, attempt in scene.arrived()] == [1, 2]
        assert scene.states(replay_id) == {"a": "sent"}


class TestDoubts:
    def test_killed_after_sending_it_is_found_and_not_sent_again(self, scene: Scene) -> None:
        """The log has the attempt: it was sent, by our own ledger; the new tracker need not wait for the claim."""
        replay_id = kill(scene, "after")
        scene.observe()
        scene.rounds(scene.worker("second"))
        assert scene.states(replay_id) == {"a": "sent"}
        assert len(scene.arrived()) == 1

    def test_killed_before_sending_it_is_sent_once(self, scene: Scene) -> None:
        """Coverage has passed the claim and the log has nothing: as attempt 2, since attempt 1 is used up."""
        replay_id = kill(scene, "before")
        second = scene.worker("second")
        scene.wait(LEASE_S + TRAVEL_S + 1)
        second.step()
        assert scene.states(replay_id) == {"a": "in_doubt"}
        scene.observe()
        scene.rounds(second, 4, 5)
        assert scene.arrived() == [("a", replay_id, 2)]

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_while_blind_it_stays_in_doubt(self, scene: Scene, moment: str) -> None:
        """For an hour, if need be; and it is shown."""
        replay_id = kill(scene, moment)
        scene.rounds(scene.worker("second"), 20, 180)
        assert scene.replays.get(replay_id).messages["in_doubt"] == 1
        assert len(scene.arrived()) == (moment == "after")

    def test_where_nobody_watches_the_log_it_stays_in_doubt(self, scene: Scene) -> None:
        """Without a source that announced itself, silence proves nothing."""
        scene.announced = False
        replay_id = kill(scene, "before")
        for _ in range(5):
            scene.observe()
            scene.rounds(scene.worker("second"), 1, 60)
        assert scene.states(replay_id) == {"a": "in_doubt"}

    def test_recovery_ends_the_doubt(self, scene: Scene) -> None:
        """However it came about."""
        replay_id = kill(scene, "after")
        second = scene.worker("second")
        scene.wait(LEASE_S)
        scene.consume("a")
        second.step()
        assert scene.states(replay_id) == {"a": "recovered"}

    def test_a_target_that_never_takes_it_parks_it(self, scene: Scene) -> None:
        """Three attempts that did not arrive; the target's own words are kept."""
        scene.lose("a")
        scene.port.refuses = True
        replay_id = scene.start()
        worker = scene.worker()
        for _ in range(40):
            scene.rounds(worker, 1, 5)
            scene.observe()
        assert scene.arrived() == []
        assert scene.states(replay_id) == {"a": "parked"}
        assert "not enough replicas" in scene.errors(replay_id)["a"]

    def test_a_cancelled_replay_is_settled_and_sends_nothing_more(self, scene: Scene) -> None:
        """In doubt, found not to have arrived: it stays planned in a replay that will not go on."""
        replay_id = kill(scene, "before")
        scene.replays.cancel(replay_id, BOB)
        scene.wait(LEASE_S + TRAVEL_S + 1)
        scene.observe()
        scene.rounds(scene.worker("second"), 4, 5)
        assert scene.states(replay_id) == {"a": "planned"}
        assert scene.arrived() == []
        assert scene.start() != replay_id


class TestInterrupted:
    def test_a_replay_that_was_never_finished_being_made_fails(self, scene: Scene, monkeypatch) -> None:
        """The tracker was killed while it stored the messages: nobody saw the whole, nothing is sent."""
        scene.lose("a", "b")
        monkeypatch.setattr(scene.replays, "_requested", killed)
        with pytest.raises(Killed):
            scene.start()
        (replay,) = scene.replays.list().items
        scene.rounds(scene.worker(), 3, 250)
        assert scene.replays.get(replay.id).replay.status == "planned"
        scene.rounds(scene.worker(), 2, 250)
        shown = scene.replays.get(replay.id).replay
        assert shown.status == "failed"
        assert "ask again" in shown.detail
        assert scene.arrived() == []


class TestInTheDark:
    def test_a_doubt_that_nobody_can_settle_ends_by_a_ruling(self, scene: Scene) -> None:
        """The target's collector never comes back: parked by a person, and opened again, it can be sent once more."""
        scene.lose("a")
        scene.port.refuses = True
        first = scene.start()
        worker = scene.worker()
        worker.step()
        scene.port.refuses = False
        scene.replays.cancel(first, BOB)
        scene.rounds(worker, 5, 60)
        assert scene.states(first) == {"a": "in_doubt"}
        (refused,) = scene.replays.plan(Selection(flow="orders")).refused
        assert (refused.reason, "incidents park" in refused.detail) == ("busy", True)
        scene.find("a", "parked")
        scene.rounds(worker, 2)
        assert scene.states(first) == {"a": "parked"}
        assert "may have arrived" in scene.errors(first)["a"]
        scene.find("a")
        second = scene.start()
        scene.rounds(worker, 20, 5)
        assert scene.states(second) == {"a": "sent"}

    def test_of_a_replay_that_runs_it_is_waited_for(self, scene: Scene) -> None:
        """The plan says so as long as that one may still go on."""
        scene.lose("a")
        scene.start()
        (refused,) = scene.replays.plan(Selection(flow="orders")).refused
        assert "wait for that one, or cancel it" in refused.detail
