from typing import Any

import pytest

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import Conflict, Invalid, NotFound
from tracker.control.messages import Planned
from tracker.control.replays import ENDED, NEXT, Request


def request(replay_id: str = "r-1", **more: Any) -> Request:
    """A request of flow `orders`, with fields replaced by `more`."""
    values: dict[str, Any] = {
        "flow": "orders",
        "selection": {"incident": "i-1"},
        "plan": {"target": "kafka-eu", "bytes": 4096},
        "mode": "approve",
        "rate": 500.0,
        "requested_by": "ann",
        "reason": "billing skipped them",
        "incident_id": "i-1",
    }
    return Request(id=replay_id, **(values | more))


class TestLife:
    def test_a_replay_is_kept_as_asked(self, control: Control) -> None:
        """Who, why, what and how fast, before anybody approved it."""
        replay = control.replays.create(request(), 100)
        assert replay == control.replays.get("r-1")
        assert (replay.status, replay.created_at, replay.approved_by, replay.approved_at) == ("planned", 100, "", None)
        assert (replay.selection, replay.plan["bytes"], replay.rate) == ({"incident": "i-1"}, 4096, 500.0)

    def test_an_id_is_used_once(self, control: Control) -> None:
        """A second replay never takes over the first one's messages."""
        control.replays.create(request(), 100)
        with pytest.raises(Conflict, match="'r-1' exists"):
            control.replays.create(request(), 200)

    def test_from_asked_to_done(self, control: Control) -> None:
        """Each step is dated; the one who approved is kept; pausing does not move the start."""
        control.replays.create(request(), 100)
        for at, status in enumerate(
            ("awaiting_approval", "approved", "running", "paused", "running", "done"), start=101
        ):
            control.replays.move("r-1", status, at, by=f"by-{status}")
        replay = control.replays.get("r-1")
        assert (replay.approved_by, replay.approved_at) == ("by-approved", 102)
        assert (replay.started_at, replay.finished_at, replay.status) == (103, 106, "done")

    def test_moving_to_where_it_is_changes_nothing(self, control: Control) -> None:
        """A retry after a lost answer keeps the first approver."""
        control.replays.create(request(), 100)
        control.replays.move("r-1", "approved", 101, by="bob")
        assert control.replays.move("r-1", "approved", 102, by="cid").approved_by == "bob"

    @pytest.mark.parametrize("status", sorted(ENDED))
    def test_what_has_ended_stays_ended(self, control: Control, status: str) -> None:
        """Nothing follows done, cancelled or failed, and the error says so."""
        control.replays.create(request(), 100)
        for step in ("approved", "running", status):
            control.replays.move("r-1", step, 101, by="ann", detail="why")
        assert control.replays.get("r-1").detail == "why"
        for other in set(NEXT) - {status}:
            with pytest.raises(Conflict, match="it has ended"):
                control.replays.move("r-1", other, 102, by="ann")

    @pytest.mark.parametrize("status", ["running", "done", "nonsense"])
    def test_nothing_runs_without_approval(self, control: Control, status: str) -> None:
        """The error names what is possible instead."""
        control.replays.create(request(), 100)
        with pytest.raises(Conflict, match=r"is planned, it cannot become .*possible: approved, awaiting_approval"):
            control.replays.move("r-1", status, 101, by="ann")

    def test_an_unknown_replay_is_named(self, control: Control) -> None:
        """Each way to ask for it says which one is missing."""
        asks = (
            lambda: control.replays.get("r-9"),
            lambda: control.replays.move("r-9", "approved", 1, by="ann"),
            lambda: control.messages.add("r-9", [], 1),
            lambda: control.messages.claim("r-9", 1, "a", 1, 1),
        )
        for ask in asks:
            with pytest.raises(NotFound, match="r-9"):
                ask()

    @pytest.mark.parametrize("value", [float("nan"), object(), {(1, 2): 3}])
    def test_what_is_not_json_is_refused(self, control: Control, value: object) -> None:
        """Not-a-number would be readable in one database and not in the other."""
        with pytest.raises(Invalid, match="cannot be stored as JSON"):
            control.replays.create(request(plan={"cost": value}), 100)

    def test_pages_and_filters(self, control: Control) -> None:
        """Newest first; by status, flow and incident; cursor after cursor."""
        with control.transaction() as books:
            for number in range(5):
                books.replays.create(request(f"r-{number}", flow="ab"[number % 2], incident_id=f"i-{number}"), 100)
            books.replays.move("r-2", "cancelled", 101, by="ann")
        first = control.replays.page(limit=3)
        rest = control.replays.page(limit=3, cursor=first.cursor)
        assert [replay.id for replay in first.items + rest.items] == ["r-4", "r-3", "r-2", "r-1", "r-0"]
        assert [replay.id for replay in control.replays.page(status=["cancelled"]).items] == ["r-2"]
        assert [replay.id for replay in control.replays.page(flow="b").items] == ["r-3", "r-1"]
        assert [replay.id for replay in control.replays.page(incident_id="i-4").items] == ["r-4"]


class TestAdding:
    def test_messages_are_added_only_while_it_is_planned(self, control: Control) -> None:
        """What was approved is what is sent."""
        control.replays.create(request(), 100)
        control.messages.add("r-1", [Planned("m-1", 0, {})], 100)
        control.replays.move("r-1", "approved", 101, by="bob")
        with pytest.raises(Conflict, match="only while it is planned"):
            control.messages.add("r-1", [Planned("m-2", 1, {})], 102)

    def test_adding_twice_is_adding_once(self, control: Control) -> None:
        """A plan may be written again after a crash."""
        control.replays.create(request(), 100)
        for _ in range(2):
            control.messages.add("r-1", [Planned("m-1", 0, {"offset": 1}), Planned("m-2", 1, {})], 100)
        assert control.messages.counts("r-1")["planned"] == 2


class TestBudget:
    def test_what_one_approved_in_a_span_is_summed(self, control: Control) -> None:
        """Of one flow, by one approver, after a moment; what nobody approved yet is no part of it."""
        assert control.replays.spent("orders", "policy auto", 0) == 0
        for number, (flow, by, at) in enumerate(
            [("orders", "policy auto", 100), ("orders", "policy auto", 200), ("orders", "ann", 200),
             ("other", "policy auto", 200), ("orders", "", 200)]
        ):  # fmt: skip
            control.replays.create(request(f"r-{number}", flow=flow, plan={"messages": 10**number}), at)
            if by:
                control.replays.move(f"r-{number}", "approved", at, by=by)
        assert control.replays.spent("orders", "policy auto", 99) == 11
        assert control.replays.spent("orders", "policy auto", 100) == 10
        assert control.replays.spent("orders", "policy auto", 200) == 0

    def test_two_who_spend_at_once_do_so_one_after_the_other(self, control: Control) -> None:
        """Each looks at what is left, and takes it if there is enough: together never more than there was."""

        def spend(number: int) -> bool:
            with control.transaction() as books:
                books.replays.hold("orders")
                if books.replays.spent("orders", "policy auto", 0) >= 2:
                    return False
                books.replays.create(request(f"r-{number}", plan={"messages": 1}), 100)
                books.replays.move(f"r-{number}", "approved", 100, by="policy auto")
                return True

        assert sum(together(4, spend)) == 2
