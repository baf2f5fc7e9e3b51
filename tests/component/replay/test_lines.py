"""Messages of a key, or of a partition, go one after the other, where the flow asks for order."""

from __future__ import annotations

import pytest

from tests.component.replay.scene import ANN, SPEC, Scene
from tracker.replay import Selection

IDS = ["m-0", "m-1", "m-2", "m-3", "m-4", "m-5"]


@pytest.fixture
def ordered(scene: Scene) -> Scene:
    """A flow that asks for order by key; its six messages have two, in turns."""
    text = SPEC.replace("MODE", "auto").replace("within: 10s}", "within: 10s, order: key}")
    scene.put(text.replace("[log: kafka]", "[log: kafka, dead_letter: billing]"))
    scene.key = lambda one: f"k{int(one[2:]) % 2}"
    scene.lose(*IDS)
    return scene


def calls(scene: Scene) -> list[list[str]]:
    """What is handed to the publisher from now on, call by call."""
    made: list[list[str]] = []
    scene.port.before = lambda copies: made.append([copy.locator.message_id for copy in copies])
    return made


def test_the_next_of_a_key_follows_when_the_former_was_confirmed(ordered: Scene) -> None:
    """One of each key in a call, in the order of the log."""
    made = calls(ordered)
    ordered.start()
    worker = ordered.worker()
    ordered.rounds(worker, 3)  # the first round of a target sends one message
    assert made == [["m-0"], ["m-1", "m-2"], ["m-3", "m-4"], ["m-5"]]


def test_one_that_is_not_confirmed_holds_back_those_behind_it(ordered: Scene) -> None:
    """And only those; they say for whom they wait, use up no attempt, and go once that one has arrived."""
    replay_id = ordered.start()
    worker = ordered.worker()
    ordered.rounds(worker, 1)

    def lies(copies: object) -> None:
        ordered.port.lies = "m-2" in str(copies)

    ordered.port.before = lies
    worker.step()
    ordered.port.before = lambda copies: None
    ordered.port.lies = False
    states = ordered.states(replay_id)
    assert (states["m-0"], states["m-2"], states["m-4"]) == ("sent", "in_doubt", "planned")
    assert "waits for 'm-2'" in ordered.errors(replay_id)["m-4"]
    ordered.rounds(worker, 3)
    assert ordered.states(replay_id)["m-4"] == "planned"
    ordered.observe()
    ordered.rounds(worker, 3)
    assert [one for one, _, _ in ordered.arrived() if int(one[2:]) % 2 == 0] == ["m-0", "m-2", "m-4"]
    assert {attempt for _, _, attempt in ordered.arrived()} == {1}


def test_behind_one_that_is_never_sent_nothing_of_its_key_goes(ordered: Scene) -> None:
    """Its copy is gone: the others of its key are refused and say why, in this batch and in later ones."""
    ordered.port.expired = {"m-2"}
    replay_id = ordered.replays.create(Selection(flow="orders"), ANN, rate=2).replay.id
    ordered.rounds(ordered.worker(), 8)
    states, errors = ordered.states(replay_id), ordered.errors(replay_id)
    assert [states[one] for one in IDS] == ["sent", "sent", "refused", "sent", "refused", "sent"]
    assert "retention" in errors["m-2"]
    assert errors["m-4"].startswith("held back: 'm-2', which comes before it in its line, is not sent: ")


def test_one_that_needs_nothing_any_more_holds_nothing_back(ordered: Scene) -> None:
    """It recovered by itself, or was withdrawn: what is missing goes on."""
    replay_id = ordered.start()
    ordered.find("m-0", "withdrawn")
    ordered.consume("m-1")
    ordered.rounds(ordered.worker(), 3)
    assert [one for one, _, _ in ordered.arrived()] == ["m-2", "m-3", "m-4", "m-5"]
    assert ordered.states(replay_id)["m-0"] == "refused"


def test_one_that_never_arrived_goes_again_before_those_behind_it(ordered: Scene) -> None:
    """While it waits for its next attempt, those of its key wait, too."""
    ordered.start()
    worker = ordered.worker()
    ordered.port.refuses = True
    ordered.rounds(worker, 1)
    ordered.port.refuses = False
    for _ in range(12):
        ordered.observe()
        ordered.rounds(worker, 1, 6)
    assert [one for one, _, _ in ordered.arrived() if int(one[2:]) % 2 == 0] == ["m-0", "m-2", "m-4"]


def test_a_plan_says_how_many_lines_there_are(ordered: Scene) -> None:
    """And sends the first of each before the second of any."""
    plan = ordered.replays.plan(Selection(flow="orders"))
    assert [item.message_id for item in plan.items] == IDS
    assert (plan.summary()["lines"], {item.line for item in plan.items}) == (2, {"k0", "k1"})
