from typing import Any

import msgspec
import pytest

from tests.component.control.running import together
from tracker.control import Control
from tracker.control.errors import Invalid, NotFound
from tracker.control.incidents import PAUSE, Counted, Counts, Entry


def _counted(number: int = 1, open: int = 137, total: int = 137, **more: Any) -> Counted:
    counts = Counts(open=open, total=total, recovered=total - open)
    values: dict[str, Any] = {"flow": "orders", "hop": "billing", "kind": "unacknowledged", "stage": "ack"}
    values |= {"first_finding_at": 90, "last_finding_at": 95} | more
    return Counted(id=f"i-{number}", counts=counts, **values)


class TestUpsert:
    def test_an_incident_opens_with_what_was_counted(self, control: Control) -> None:
        """Counts, times and the flow's owner are kept, and the timeline says who opened it."""
        incident = control.incidents.upsert(_counted(), 100, owner="team-payments")
        assert incident == control.incidents.get("i-1")
        assert (incident.status, incident.opened_at, incident.owner) == ("open", 100, "team-payments")
        assert (incident.open, incident.total, incident.recovered, incident.resolved_at) == (137, 137, 0, None)
        told = "opened: unacknowledged at billing; 137 findings: 137 open"
        assert control.incidents.timeline("i-1") == [Entry(100, "tracker", told)]

    def test_doing_a_pass_again_changes_nothing(self, control: Control) -> None:
        """The same counts at the same time leave the same incident and the same timeline."""
        first = control.incidents.upsert(_counted(open=0), 100)
        timeline = control.incidents.timeline("i-1")
        assert control.incidents.upsert(_counted(open=0), 100) == first
        assert control.incidents.timeline("i-1") == timeline
        assert [entry.what for entry in timeline][1:] == ["resolved: no finding is open; 137 findings: 137 recovered"]

    def test_counts_are_set_not_added(self, control: Control) -> None:
        """What is said last is what is true."""
        control.incidents.upsert(_counted(), 100)
        incident = control.incidents.upsert(_counted(open=37, total=140, recover_p50=5, recover_p90=9), 200)
        assert (incident.open, incident.recovered, incident.total) == (37, 103, 140)
        assert (incident.recover_p50, incident.recover_p90, incident.opened_at) == (5, 9, 100)

    def test_it_resolves_with_its_last_open_finding_and_opens_again(self, control: Control) -> None:
        """The status follows the findings; each change is one line of the timeline."""
        control.incidents.upsert(_counted(), 100)
        resolved = control.incidents.upsert(_counted(open=0), 200)
        assert (resolved.status, resolved.resolved_at) == ("resolved", 200)
        assert control.incidents.upsert(_counted(open=0), 300).resolved_at == 200
        again = control.incidents.upsert(_counted(open=2), 400)
        assert (again.status, again.resolved_at) == ("open", None)
        lines = [(entry.at, entry.what) for entry in control.incidents.timeline("i-1")][1:]
        assert lines == [
            (200, "resolved: no finding is open; 137 findings: 137 recovered"),
            (400, "opened again; 137 findings: 2 open, 135 recovered"),
        ]

    def test_one_that_opens_again_has_to_be_acknowledged_again(self, control: Control) -> None:
        """What somebody had taken on was over; the owner and the note stay, and the timeline knows who it was."""
        control.incidents.upsert(_counted(), 100)
        control.incidents.patch("i-1", 150, "ann", owner="ann", note="disk full", acknowledge=True)
        control.incidents.upsert(_counted(open=0), 200)
        again = control.incidents.upsert(_counted(open=1, total=138), 300)
        assert (again.status, again.acknowledged_at, again.acknowledged_by) == ("open", None, "")
        assert (again.owner, again.note) == ("ann", "disk full")
        assert control.incidents.patch("i-1", 350, "bob", acknowledge=True).acknowledged_at == 350
        assert [e.who for e in control.incidents.timeline("i-1") if e.what == "acknowledged"] == ["ann", "bob"]

    def test_counts_that_change_are_on_the_timeline(self, control: Control) -> None:
        """A line a minute at most, which is brought up to date within it; what a person says begins a new one."""
        minute = 60_000_000
        control.incidents.upsert(_counted(open=1, total=1), 0)
        for second in range(1, 150):
            control.incidents.upsert(_counted(open=second, total=second + 1), second * 1_000_000)
        control.incidents.patch("i-1", 150_000_000, "ann", acknowledge=True)
        control.incidents.upsert(_counted(open=1, total=200), 151_000_000)
        lines = [(entry.at // minute, entry.what) for entry in control.incidents.timeline("i-1")][1:]
        assert lines == [
            (0, "now 61 findings: 60 open, 1 recovered"),
            (1, "now 121 findings: 120 open, 1 recovered"),
            (2, "now 150 findings: 149 open, 1 recovered"),
            (2, "acknowledged"),
            (2, "now 200 findings: 1 open, 199 recovered"),
        ]

    def test_findings_that_were_wrong_are_counted_apart(self, control: Control) -> None:
        """Withdrawn, parked and given up each have their number, and what recovered by itself is told."""
        counts = Counts(
            open=1, total=10, recovered=4, recovered_by_itself=3, withdrawn=2, superseded=3, parked=1, abandoned=2
        )
        told = control.incidents.upsert(msgspec.structs.replace(_counted(), counts=counts), 100)
        assert (told.withdrawn, told.superseded, told.parked, told.abandoned, told.recovered_by_itself) == (
            2,
            3,
            1,
            2,
            3,
        )
        assert control.incidents.timeline("i-1")[0].what.endswith(
            "10 findings: 1 open, 4 recovered (3 by itself), 2 withdrawn, 3 superseded, 1 parked, 2 abandoned"
        )

    def test_a_persons_words_survive_the_next_pass(self, control: Control) -> None:
        """The reconciler sets counts only; owner, note and acknowledgement stay."""
        control.incidents.upsert(_counted(), 100, owner="team")
        control.incidents.patch("i-1", 150, "ann", owner="ann", note="disk full", acknowledge=True)
        incident = control.incidents.upsert(_counted(open=1), 200, owner="team")
        assert (incident.owner, incident.note, incident.status) == ("ann", "disk full", "acknowledged")
        assert (incident.acknowledged_at, incident.acknowledged_by) == (150, "ann")

    def test_more_after_a_pause_opens_an_acknowledged_one_again(self, control: Control) -> None:
        """One message that stays lost, and was acknowledged, must not keep the outage of Thursday quiet."""
        control.incidents.upsert(_counted(last_finding_at=100), 100)
        control.incidents.patch("i-1", 150, "ann", acknowledge=True)
        soon = control.incidents.upsert(_counted(open=101, last_finding_at=100 + PAUSE), 200)
        assert soon.status == "acknowledged"
        late = 100 + 2 * PAUSE + 1
        again = control.incidents.upsert(_counted(open=5000, last_finding_at=late), late)
        assert (again.status, again.acknowledged_at, again.acknowledged_by) == ("open", None, "")
        lines = [entry.what for entry in control.incidents.timeline("i-1")]
        assert lines[-1].startswith("opened again, after a pause there is more; ")
        assert control.incidents.upsert(_counted(open=5000, last_finding_at=late), late).status == "open"
        assert [entry.what for entry in control.incidents.timeline("i-1")] == lines, "done again, it says nothing new"

    def test_one_whose_findings_all_went_to_another_is_over(self, control: Control) -> None:
        """They turned out to follow from something before them, and with them go the times of how it went."""
        control.incidents.upsert(_counted(detect_p50=1, detect_p90=2, recover_p50=3, recover_p90=4), 100)
        left = control.incidents.emptied("i-1", 200)
        assert left is not None
        assert (left.status, left.open, left.total, left.resolved_at) == ("resolved", 0, 0, 200)
        assert (left.detect_p50, left.detect_p90, left.recover_p50, left.recover_p90) == (None, None, None, None)
        assert control.incidents.emptied("i-none", 200) is None

    def test_what_is_told_is_told_once(self, control: Control) -> None:
        """Whenever it is said again, by whoever goes on after a restart; another word, or another's, is another."""
        control.incidents.upsert(_counted(), 100)
        for at, who, what in ((1, "a", "x"), (2, "a", "x"), (3, "b", "x"), (4, "a", "y")):
            control.incidents.tell("i-1", at, who, what)
        told = control.incidents.timeline("i-1")
        assert [entry for entry in told if entry.who != "tracker"] == [
            Entry(1, "a", "x"), Entry(3, "b", "x"), Entry(4, "a", "y")]  # fmt: skip
        with pytest.raises(NotFound):
            control.incidents.tell("i-9", 1, "a", "x")

    def test_two_trackers_at_once_open_one(self, control: Control) -> None:
        """The key is the caller's, so the same incident is one row and one line."""
        together(6, lambda _: control.incidents.upsert(_counted(), 100))
        assert len(control.incidents.page().items) == 1
        assert len(control.incidents.timeline("i-1")) == 1


class TestPatch:
    def test_acknowledging_counts_once(self, control: Control) -> None:
        """Time to act is measured to the first acknowledgement."""
        control.incidents.upsert(_counted(), 100)
        control.incidents.patch("i-1", 150, "ann", acknowledge=True)
        incident = control.incidents.patch("i-1", 160, "bob", acknowledge=True)
        assert (incident.status, incident.acknowledged_at, incident.acknowledged_by) == ("acknowledged", 150, "ann")

    def test_acknowledging_a_resolved_one_does_not_open_it(self, control: Control) -> None:
        """It stays resolved, and the timeline says who looked."""
        control.incidents.upsert(_counted(open=0), 100)
        assert control.incidents.patch("i-1", 150, "ann", acknowledge=True).status == "resolved"

    def test_a_patch_that_says_nothing_changes_nothing(self, control: Control) -> None:
        """Fields left out stay; the same owner and note again write no line."""
        control.incidents.upsert(_counted(), 100, owner="team")
        before = control.incidents.timeline("i-1")
        assert control.incidents.patch("i-1", 150, "ann", owner="team", note="") == control.incidents.get("i-1")
        assert control.incidents.timeline("i-1") == before

    def test_every_change_is_on_the_timeline(self, control: Control) -> None:
        """Who, when and what, oldest first."""
        control.incidents.upsert(_counted(), 100)
        control.incidents.patch("i-1", 150, "ann", owner="bob", note="see ticket", acknowledge=True)
        control.incidents.enter("i-1", 160, "bob", "replay r-1 started")
        control.incidents.enter("i-1", 160, "bob", "replay r-1 started")
        lines = [(entry.at, entry.who, entry.what) for entry in control.incidents.timeline("i-1")][1:]
        assert lines == [
            (150, "ann", "acknowledged"),
            (150, "ann", "owner: bob"),
            (150, "ann", "note: see ticket"),
            (160, "bob", "replay r-1 started"),
        ]

    def test_an_unknown_incident_is_named(self, control: Control) -> None:
        """Each way to ask for it says which one is missing."""
        asks = (
            lambda: control.incidents.get("i-9"),
            lambda: control.incidents.timeline("i-9"),
            lambda: control.incidents.patch("i-9", 1, "ann"),
            lambda: control.incidents.enter("i-9", 1, "ann", "x"),
        )
        for ask in asks:
            with pytest.raises(NotFound, match="i-9"):
                ask()


class TestPages:
    def _fill(self, control: Control) -> None:
        with control.transaction() as books:
            for number in range(7):
                books.incidents.upsert(_counted(number, open=number % 2, flow="ab"[number % 2]), 100 + number // 2)

    def test_pages_follow_each_other_newest_first_without_gap_or_repeat(self, control: Control) -> None:
        """Also where several opened at the same moment, and when new ones open between two pages."""
        self._fill(control)
        first = control.incidents.page(limit=3)
        control.incidents.upsert(_counted(99), 999)
        second = control.incidents.page(limit=3, cursor=first.cursor)
        third = control.incidents.page(limit=3, cursor=second.cursor)
        ids = [incident.id for page in (first, second, third) for incident in page.items]
        assert ids == ["i-6", "i-5", "i-4", "i-3", "i-2", "i-1", "i-0"]
        assert third.cursor == ""

    def test_filters_by_status_and_flow(self, control: Control) -> None:
        """Any of the statuses given; none given means all."""
        self._fill(control)
        assert {incident.status for incident in control.incidents.page(status=["resolved"]).items} == {"resolved"}
        assert len(control.incidents.page(status=["resolved", "open"]).items) == 7
        assert [incident.id for incident in control.incidents.page(flow="b").items] == ["i-5", "i-3", "i-1"]
        assert control.incidents.page(status=["acknowledged"]).items == []

    @pytest.mark.parametrize("cursor", ["?", "bm90anNvbg", "WzEsMl0", "W10", "é"])
    def test_a_cursor_that_is_not_ours_is_refused(self, control: Control, cursor: str) -> None:
        """Never a wrong page, never a stack trace of a decoder."""
        with pytest.raises(Invalid, match="is not a cursor"):
            control.incidents.page(cursor=cursor)
