from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.component.control.running import EACH_ROLLED_BACK, rolled_back, together
from tests.component.control.test_replays import request
from tracker.control import Books, Control
from tracker.control.errors import Invalid
from tracker.control.messages import FROM, LARGEST_BATCH, STATES, Claimed, Planned


def running(books: Books, count: int = 3, replay_id: str = "r-1") -> None:
    """A running replay of the messages m-0, m-1, ..."""
    books.replays.create(request(replay_id), 100)
    books.messages.add(replay_id, [Planned(f"m-{n}", n, {"offset": n}) for n in range(count)], 100)
    for status in ("approved", "running"):
        books.replays.move(replay_id, status, 101, by="bob")


def _states(books: Books) -> dict[str, str]:
    return {message.message_id: message.state for message in books.messages.page("r-1", limit=1000).items}


class TestClaim:
    def test_a_batch_is_claimed_in_order(self, control: Control) -> None:
        """What is to be sent, from where, which attempt, and until when it is ours."""
        running(control)
        batch = control.messages.claim("r-1", 2, "a", 200, 50)
        assert batch == [Claimed("m-0", 0, {"offset": 0}, 1, "a", 250), Claimed("m-1", 1, {"offset": 1}, 1, "a", 250)]
        assert [one.message_id for one in control.messages.claim("r-1", 2, "b", 200, 50)] == ["m-2"]
        assert control.messages.claim("r-1", 2, "c", 200, 50) == []

    @pytest.mark.parametrize("status", ["paused", "cancelled"])
    def test_only_a_running_replay_gives_any(self, control: Control, status: str) -> None:
        """Pausing and cancelling take effect at the next claim."""
        running(control)
        control.replays.move("r-1", status, 150, by="ann")
        assert control.messages.claim("r-1", 2, "a", 200, 50) == []

    def test_messages_claimed_under_an_earlier_replay_count_their_attempts_on(self, control: Control) -> None:
        """The loop guard sees how often a message was sent again in all."""
        control.replays.create(request(), 100)
        control.messages.add("r-1", [Planned("m-1", 0, {}, attempt=2)], 100)
        for status in ("approved", "running"):
            control.replays.move("r-1", status, 101, by="bob")
        assert control.messages.claim("r-1", 1, "a", 200, 50)[0].attempt == 3

    def test_retries_are_bounded_apart(self, control: Control) -> None:
        """What was tried before comes first, and no more of it than is asked for; the rest is for what was not."""
        running(control, 6)
        batch = control.messages.claim("r-1", 3, "a", 200, 50)
        attempts = {one.message_id: 1 for one in batch}
        control.messages.mark("r-1", attempts, "in_doubt", 210, owner="a")
        control.messages.mark("r-1", attempts, "planned", 220, not_before=230)
        taken = control.messages.claim("r-1", 4, "a", 300, 50, retries=2)
        assert [(one.message_id, one.again) for one in taken] == [
            ("m-0", True), ("m-1", True), ("m-3", False), ("m-4", False),
        ]  # fmt: skip
        assert [one.message_id for one in control.messages.claim("r-1", 4, "a", 300, 50, retries=0)] == ["m-5"]
        assert control.messages.claim("r-1", 4, "a", 300, 50, retries=0) == []

    def test_in_a_line_one_holds_back_the_next(self, control: Control) -> None:
        """While it is somebody's, in doubt, or waits for another try; of those that nobody has, all can be taken, in
        order. Other lines go on."""
        control.replays.create(request(), 100)
        lines = {"m-0": "x", "m-1": "y", "m-2": "x", "m-3": "", "m-4": "x"}
        control.messages.add(
            "r-1", [Planned(one, n, {}, line=line) for n, (one, line) in enumerate(lines.items())], 100
        )
        for status in ("approved", "running"):
            control.replays.move("r-1", status, 101, by="bob")

        def claimed(limit: int = 9) -> list[str]:
            return [one.message_id for one in control.messages.claim("r-1", limit, "a", 200, 50)]

        assert claimed(1) == ["m-0"]
        assert claimed() == ["m-1", "m-3"]
        control.messages.mark("r-1", {"m-0": 1}, "in_doubt", 210, owner="a")
        assert claimed() == []
        control.messages.mark("r-1", {"m-0": 1}, "planned", 220, not_before=300)
        assert claimed() == []
        assert [one.message_id for one in control.messages.claim("r-1", 9, "a", 300, 50)] == ["m-0"]
        control.messages.mark("r-1", {"m-0": 2}, "sent", 310, owner="a")
        assert claimed() == ["m-2", "m-4"]
        control.messages.mark("r-1", {"m-2": 1}, "refused", 320, error="gone")
        assert [(row.message_id, row.error) for row in control.messages.stuck("r-1", ["x", "y"])] == [("m-2", "gone")]

    def test_how_much_is_under_way(self, control: Control) -> None:
        """What is claimed, in doubt or sent, since a time; and whether anything is."""
        running(control, 4)
        assert not control.messages.any_in("r-1", ["claimed", "sent"])
        batch = control.messages.claim("r-1", 3, "a", 200, 50)
        control.messages.sent("r-1", batch[:1], 210)
        control.messages.mark("r-1", {"m-1": 1}, "in_doubt", 210, owner="a")
        assert (control.messages.under_way("r-1", 199), control.messages.under_way("r-1", 200)) == (3, 0)
        control.messages.mark("r-1", {"m-0": 1}, "recovered", 220)
        assert control.messages.under_way("r-1", 199) == 2
        assert control.messages.any_in("r-1", ["sent", "claimed"])
        assert control.messages.states("r-1", ["m-0", "m-3", "no"]) == {"m-0": "recovered", "m-3": "planned"}

    @pytest.mark.parametrize("limit", [0, -1, LARGEST_BATCH + 1])
    def test_a_batch_has_a_bounded_size(self, control: Control, limit: int) -> None:
        """The bound is named."""
        with pytest.raises(Invalid, match=str(LARGEST_BATCH)):
            control.messages.claim("r-1", limit, "a", 200, 50)

    def test_the_largest_batch_fits_in_one_statement(self, control: Control) -> None:
        """Claiming, sending and marking it works on both databases."""
        running(control, LARGEST_BATCH)
        batch = control.messages.claim("r-1", LARGEST_BATCH, "a", 200, 50)
        assert len(batch) == LARGEST_BATCH
        assert control.messages.sent("r-1", batch, 210) == []
        assert control.messages.counts("r-1")["sent"] == LARGEST_BATCH

    def test_threads_never_claim_the_same_message(self, control: Control) -> None:
        """Four owners take all 200 messages in small batches at the same time: each message has one owner."""
        running(control, 200)

        def take(number: int) -> list[str]:
            got: list[str] = []
            while batch := control.messages.claim("r-1", 7, f"owner-{number}", 200, 50):
                got += [one.message_id for one in batch]
            return got

        claimed = Counter(one for batch in together(4, take) for one in batch)
        # A claimer passes over rows that another is just claiming, and may see none left: a last round gets the rest.
        claimed.update(take(9))
        assert claimed == Counter(f"m-{n}" for n in range(200))


class TestMarking:
    def test_what_was_sent_is_said_once_and_again(self, control: Control) -> None:
        """A retry after a lost answer changes nothing, not even the time."""
        running(control)
        batch = control.messages.claim("r-1", 3, "a", 200, 50)
        assert control.messages.sent("r-1", batch, 210) == []
        assert control.messages.sent("r-1", batch, 220) == []
        assert {message.sent_at for message in control.messages.page("r-1").items} == {210}

    def test_a_claim_that_runs_out_is_in_doubt_not_free(self, control: Control) -> None:
        """Whether it was sent only the ledger can tell; nobody claims it meanwhile."""
        running(control)
        control.messages.claim("r-1", 3, "a", 200, 50)
        assert control.messages.expire(249) == 0
        assert control.messages.expire(250) == 3
        assert control.messages.claim("r-1", 3, "b", 251, 50) == []
        assert control.messages.counts("r-1") == dict.fromkeys(STATES, 0) | {"in_doubt": 3}

    def test_a_late_word_of_the_owner_ends_the_doubt(self, control: Control) -> None:
        """It knows best whether it was sent."""
        running(control)
        batch = control.messages.claim("r-1", 3, "a", 200, 50)
        control.messages.expire(250)
        assert control.messages.sent("r-1", batch, 260) == []
        assert set(_states(control).values()) == {"sent"}

    def test_a_double_send_does_not_stay_silent(self, control: Control) -> None:
        """An owner whose claim was settled and taken by another is told the ids that it sent too late."""
        running(control)
        late = control.messages.claim("r-1", 2, "a", 200, 50)
        control.messages.expire(250)
        assert control.messages.mark("r-1", {"m-0": 1}, "planned", 260) == []
        again = control.messages.claim("r-1", 1, "b", 270, 50)
        assert [(one.message_id, one.attempt) for one in again] == [("m-0", 2)]
        assert control.messages.sent("r-1", late, 280) == ["m-0"]
        assert control.messages.sent("r-1", again, 290) == []

    def test_what_was_not_sent_is_given_back_without_using_up_the_attempt(self, control: Control) -> None:
        """A pause or an open breaker parks no message."""
        running(control)
        batch = control.messages.claim("r-1", 2, "a", 200, 50)
        assert control.messages.release("r-1", batch, 210) == []
        assert [one.attempt for one in control.messages.claim("r-1", 3, "b", 220, 50)] == [1, 1, 1]
        assert control.messages.sent("r-1", batch, 230) == ["m-0", "m-1"]

    def test_a_failed_one_waits_before_its_next_attempt(self, control: Control) -> None:
        """The error is kept until the next claim."""
        running(control, 1)
        control.messages.claim("r-1", 1, "a", 200, 50)
        control.messages.mark("r-1", {"m-0": 1}, "failed", 210, error="queue full", owner="a")
        assert control.messages.page("r-1").items[0].error == "queue full"
        control.messages.mark("r-1", {"m-0": 1}, "planned", 220, error="queue full", not_before=500)
        assert control.messages.claim("r-1", 1, "a", 499, 50) == []
        assert control.messages.claim("r-1", 1, "a", 500, 50)[0].attempt == 2
        assert control.messages.page("r-1").items[0].error == ""

    def test_marks_about_another_attempt_are_left_alone(self, control: Control) -> None:
        """What a slow observer says of attempt 1 does not touch attempt 2."""
        running(control, 1)
        batch = control.messages.claim("r-1", 1, "a", 200, 50)
        control.messages.mark("r-1", {"m-0": 1}, "failed", 210)
        control.messages.mark("r-1", {"m-0": 1}, "planned", 220)
        control.messages.claim("r-1", 1, "a", 230, 50)
        assert control.messages.sent("r-1", batch, 240) == ["m-0"]
        assert control.messages.mark("r-1", {"m-0": 1, "unknown": 1}, "parked", 240) == ["m-0", "unknown"]

    def test_another_owner_cannot_speak_for_a_claim(self, control: Control) -> None:
        """The owner is compared where it is given."""
        running(control, 1)
        control.messages.claim("r-1", 1, "a", 200, 50)
        assert control.messages.mark("r-1", {"m-0": 1}, "failed", 210, owner="b") == ["m-0"]

    def test_recovered_is_final(self, control: Control) -> None:
        """Observed at the missing checkpoint: nothing sends it again."""
        running(control, 1)
        assert control.messages.mark("r-1", {"m-0": 0}, "recovered", 200) == []
        for state in set(FROM) - {"recovered"}:
            assert control.messages.mark("r-1", {"m-0": 0}, state, 210) == ["m-0"]

    def test_nobody_is_marked_claimed(self, control: Control) -> None:
        """Only a claim claims."""
        with pytest.raises(Invalid, match="'claimed' cannot be marked"):
            control.messages.mark("r-1", {"m-0": 1}, "claimed", 1)

    def test_an_empty_batch_is_nothing(self, control: Control) -> None:
        """No statement, no error."""
        running(control)
        assert control.messages.sent("r-1", [], 1) == control.messages.release("r-1", [], 1) == []


class TestLooking:
    def test_pages_come_in_order_and_by_state(self, control: Control) -> None:
        """Cursor after cursor, also of one state."""
        running(control, 5)
        control.messages.claim("r-1", 2, "a", 200, 50)
        first = control.messages.page("r-1", limit=3)
        rest = control.messages.page("r-1", limit=3, cursor=first.cursor)
        assert [message.message_id for message in first.items + rest.items] == [f"m-{n}" for n in range(5)]
        planned = control.messages.page("r-1", state="planned", limit=2)
        assert [message.ordinal for message in planned.items] == [2, 3]
        assert control.messages.page("r-1", state="planned", cursor=planned.cursor).items[0].ordinal == 4

    def test_the_history_of_a_message_spans_replays_of_its_flow(self, control: Control) -> None:
        """Lineage: every replay that took it, oldest first; another flow's message of the same id is another."""
        running(control, 1, "r-1")
        running(control, 1, "r-2")
        control.replays.create(request("r-3", flow="other"), 100)
        control.messages.add("r-3", [Planned("m-0", 0, {})], 100)
        assert [message.replay_id for message in control.messages.history("orders", "m-0")] == ["r-1", "r-2"]

    def test_the_past_of_many_at_once(self, control: Control) -> None:
        """As `history` tells of each, with what became of the replay; more than one statement takes."""
        running(control, 2, "r-1")
        control.replays.create(request("r-2"), 200)
        control.messages.add("r-2", [Planned("m-0", 0, {})], 200)
        control.replays.create(request("r-3", flow="other"), 100)
        control.messages.add("r-3", [Planned("m-0", 0, {})], 100)
        found = control.messages.passages("orders", ["m-0", "m-1", *(f"x-{n}" for n in range(LARGEST_BATCH))])
        assert {one: [(p.message.replay_id, p.status) for p in past] for one, past in found.items()} == {
            "m-0": [("r-1", "running"), ("r-2", "planned")], "m-1": [("r-1", "running")]}  # fmt: skip
        for one, past in found.items():
            assert [p.message for p in past] == control.messages.history("orders", one)

    @pytest.mark.parametrize("message_id", ["ü/ 7%'\"\\", "x" * 1000, "-"])
    def test_any_id_of_an_application_is_kept(self, control: Control, message_id: str) -> None:
        """Ids are not ours to choose."""
        control.replays.create(request(), 100)
        control.messages.add("r-1", [Planned(message_id, 0, {"message_id": message_id + "\0"})], 100)
        found = control.messages.page("r-1").items[0]
        assert (found.message_id, found.locator) == (message_id, {"message_id": message_id + "\0"})


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "sent", "release", "fail", "retry", "expire", "settle", "wait"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 4),
    ),
    max_size=25,
)


class TestNeverTwice:
    @EACH_ROLLED_BACK
    @given(acts=ACTS)
    @example(acts=[("claim", "b", 1), ("wait", "a", 3), ("expire", "a", 1), ("settle", "a", 1), ("claim", "b", 1),
                   ("sent", "b", 2)])  # fmt: skip
    def test_no_send_is_forgotten_and_no_double_send_is_silent(
        self, control: Control, acts: list[tuple[str, str, int]]
    ) -> None:
        """Two owners claim, send, stall, give back and fail in any order. Each (message, attempt) is sent by one owner
        at most, and whatever the book says was not sent by its owner was indeed not said to be sent."""
        with rolled_back(control) as books:
            running(books, 6)
            Play(books).run(acts)


class Play:
    """Two owners and an honest record of what each really did."""

    def __init__(self, books: Books) -> None:
        self.books, self.now = books, 1000
        self.mine: dict[str, list[Claimed]] = {"a": [], "b": []}
        self.sends: Counter[tuple[str, int]] = Counter()

    def run(self, acts: list[tuple[str, str, int]]) -> None:
        """Acts of (what, owner, how many); after each, no message is claimed twice."""
        for act, owner, size in acts:
            getattr(self, f"_{act}")(owner, size)
            live = [one.message_id for claims in self.mine.values() for one in claims if one.expires_at > self.now]
            assert len(live) == len(set(live)), "two live claims of one message"
        assert max(self.sends.values(), default=1) == 1
        assert sum(self.books.messages.counts("r-1").values()) == 6

    def _wait(self, _owner: str, size: int) -> None:
        self.now += size * 10

    def _claim(self, owner: str, size: int) -> None:
        self.mine[owner] += self.books.messages.claim("r-1", size, owner, self.now, 25)

    def _sent(self, owner: str, size: int) -> None:
        batch, self.mine[owner] = self.mine[owner][:size], self.mine[owner][size:]
        self.sends.update((one.message_id, one.attempt) for one in batch)
        told = self.books.messages.sent("r-1", batch, self.now)
        by_id = {message.message_id: message for message in self.books.messages.page("r-1").items}
        for one in batch:
            kept = by_id[one.message_id]
            same = (kept.state, kept.attempt, kept.claimed_by) == ("sent", one.attempt, owner)
            assert same or one.message_id in told

    def _release(self, owner: str, size: int) -> None:
        batch, self.mine[owner] = self.mine[owner][:size], self.mine[owner][size:]
        self.books.messages.release("r-1", batch, self.now)

    def _fail(self, owner: str, size: int) -> None:
        batch, self.mine[owner] = self.mine[owner][:size], self.mine[owner][size:]
        self.sends.update((one.message_id, one.attempt) for one in batch)
        self.books.messages.mark("r-1", {one.message_id: one.attempt for one in batch}, "failed", self.now, owner=owner)

    def _retry(self, _owner: str, size: int) -> None:
        failed = self.books.messages.page("r-1", state="failed", limit=size).items
        self.books.messages.mark("r-1", {one.message_id: one.attempt for one in failed}, "planned", self.now)

    def _expire(self, _owner: str, _size: int) -> None:
        self.books.messages.expire(self.now)

    def _settle(self, _owner: str, size: int) -> None:
        """As the ledger does: arrived or not, by what was really sent."""
        for one in self.books.messages.page("r-1", state="in_doubt", limit=size).items:
            arrived = self.sends[one.message_id, one.attempt] > 0
            self.books.messages.mark("r-1", {one.message_id: one.attempt}, "sent" if arrived else "planned", self.now)
