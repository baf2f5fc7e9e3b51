import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.component.control.running import EACH_ROLLED_BACK, rolled_back, together
from tracker.control import Books, Control
from tracker.control.errors import Exhausted, NotFound
from tracker.control.flows import LeftOut, in_force


def _put(books: Books, flow: str = "orders", canonical: str = "{}", now: int = 100, points: int = 2) -> int:
    hops = [f"h{number}" for number in range(points)]
    return books.flows.put(flow, f"flow: {flow}", canonical, now, "ann", hops, [(hop, "ack") for hop in hops])


class TestVersions:
    def test_the_first_version_reaches_back_without_limit(self, control: Control) -> None:
        """Messages older than the first spec are judged by it."""
        assert _put(control) == 1
        version = control.flows.get("orders")
        assert (version.version, version.in_force_from, version.created_at, version.created_by) == (1, 0, 100, "ann")
        assert version.text == "flow: orders"
        assert in_force([version], -5) is None
        assert in_force([version], 3) == version

    def test_the_same_spec_again_is_no_new_version(self, control: Control) -> None:
        """Putting an equal canonical text changes nothing, whatever the YAML's layout."""
        assert _put(control) == _put(control, now=200) == 1
        assert control.flows.get("orders").created_at == 100
        assert control.flows.revision() == 1

    def test_a_changed_spec_applies_from_its_own_time_on(self, control: Control) -> None:
        """Older origins keep the version that was in force for them."""
        _put(control)
        assert _put(control, canonical='{"a":1}', now=500) == 2
        versions = control.flows.versions("orders")
        assert [version.version for version in versions] == [1, 2]
        assert in_force(versions, 499) == versions[0]
        assert in_force(versions, 500) == versions[1]

    def test_a_clock_that_stepped_back_does_not_hide_the_newest_spec(self, control: Control) -> None:
        """Where two versions apply, the higher number wins, so that the last word of a person counts."""
        _put(control)
        _put(control, canonical="[2]", now=900)
        _put(control, canonical="[3]", now=800)
        versions = control.flows.versions("orders")
        assert [in_force(versions, at).version for at in (799, 800, 899, 901)] == [1, 3, 3, 3]

    def test_going_back_to_an_old_text_is_a_new_version(self, control: Control) -> None:
        """Only the newest version counts as the same."""
        _put(control, canonical="[1]")
        _put(control, canonical="[2]", now=200)
        assert _put(control, canonical="[1]", now=300) == 3

    def test_all_lists_the_newest_version_of_each_flow(self, control: Control) -> None:
        """One row a flow, by name, without deleted flows."""
        for flow in ("b", "a", "c"):
            _put(control, flow)
        _put(control, "b", canonical="[2]", now=200)
        control.flows.delete("c", 300)
        assert [(version.flow, version.version) for version in control.flows.all()] == [("a", 1), ("b", 2)]

    def test_the_revision_grows_with_every_change(self, control: Control) -> None:
        """A reader that sees the same revision need not read specs again."""
        seen = [control.flows.revision()]
        _put(control)
        seen.append(control.flows.revision())
        control.flows.delete("orders", 200)
        seen.append(control.flows.revision())
        assert seen == [0, 1, 2]


class TestDelete:
    def test_a_deleted_flow_is_not_found_but_its_history_stays(self, control: Control) -> None:
        """What was judged under it can still be explained."""
        _put(control)
        control.flows.delete("orders", 300)
        with pytest.raises(NotFound, match="orders"):
            control.flows.get("orders")
        assert [version.deleted_at for version in control.flows.versions("orders")] == [300]
        with pytest.raises(NotFound, match="orders"):
            control.flows.delete("orders", 400)

    def test_a_deleted_flow_comes_back_as_a_new_version_with_its_old_bits(self, control: Control) -> None:
        """States written before the deletion keep their meaning."""
        _put(control, points=2)
        before = control.flows.bits("orders")
        control.flows.delete("orders", 300)
        assert _put(control, now=400, points=3) == 2
        after = control.flows.bits("orders")
        assert before.hops.items() <= after.hops.items()
        assert [version.deleted_at for version in control.flows.versions("orders")] == [300, None]


class TestBits:
    def test_bits_are_appended_and_never_moved(self, control: Control) -> None:
        """A hop that a later version drops keeps its bit; a new one gets the next."""
        control.flows.put("f", "", "[1]", 1, "ann", ["a", "b"], [("a", "ack"), ("b", "ack")])
        control.flows.put("f", "", "[2]", 2, "ann", ["b", "c"], [("b", "deliver"), ("b", "ack")])
        bits = control.flows.bits("f")
        assert bits.hops == {"a": 0, "b": 1, "c": 2}
        assert bits.checkpoints == {("a", "ack"): 0, ("b", "ack"): 1, ("b", "deliver"): 2}

    def test_what_passes_have_left_out_so_far(self, control: Control) -> None:
        """All of a new flow, then the hops that versions add; forgotten when a pass has taken in just that."""
        _put(control, points=1)
        assert control.flows.to_fold_again() == {"orders": LeftOut(1, False)}
        _put(control, canonical="[2]", points=2)
        assert control.flows.to_fold_again() == {"orders": LeftOut(2, False)}
        control.flows.folded_again("orders", LeftOut(2, False))
        _put(control, canonical="[3]", points=3)
        _put(control, canonical="[4]", points=4)
        _put(control, canonical="[5]", points=4)
        control.flows.folded_again("orders", LeftOut(3, False, ("h2",)))
        assert control.flows.to_fold_again() == {"orders": LeftOut(4, False, ("h2", "h3"))}
        control.flows.folded_again("orders", LeftOut(4, False, ("h2", "h3")))
        assert control.flows.to_fold_again() == {}

    def test_the_65th_is_refused_by_name_and_nothing_is_stored(self, control: Control) -> None:
        """All 64 can be used; one more says how many are gone and what to do."""
        _put(control, points=64)
        assert sorted(control.flows.bits("orders").hops.values()) == list(range(64))
        with pytest.raises(Exhausted, match=r"'orders' has used 64 of 64 hops.*this one adds 1"):
            _put(control, canonical="[2]", points=65)
        assert [version.version for version in control.flows.versions("orders")] == [1]

    def test_checkpoints_run_out_too(self, control: Control) -> None:
        """Five stages at 13 hops are 65 checkpoints."""
        points = [(f"h{hop}", f"s{stage}") for hop in range(13) for stage in range(5)]
        with pytest.raises(Exhausted, match="checkpoints"):
            control.flows.put("f", "", "{}", 1, "ann", ["h0"], points)

    def test_writers_at_the_same_time_get_different_versions_and_bits(self, control: Control) -> None:
        """Of eight specs put at once, each becomes a version, and each new hop has its own bit."""
        versions = together(8, lambda n: control.flows.put("f", "", f"[{n}]", 5, "ann", [f"h{n}"], [(f"h{n}", "ack")]))
        assert sorted(versions) == list(range(1, 9))
        assert sorted(control.flows.bits("f").hops.values()) == list(range(8))

    @EACH_ROLLED_BACK
    @given(specs=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8), min_size=1, max_size=8))
    def test_whatever_the_history_bits_are_dense_and_stable(self, control: Control, specs: list[list[str]]) -> None:
        """After any sequence of specs: bits 0..n-1, each hop one, none ever changed."""
        with rolled_back(control) as books:
            before: dict[str, int] = {}
            for number, hops in enumerate(specs):
                books.flows.put("f", "", str(number), number, "ann", hops, [(hop, "ack") for hop in hops])
                after = books.flows.bits("f").hops
                assert before.items() <= after.items()
                assert sorted(after.values()) == list(range(len(after)))
                before = after
