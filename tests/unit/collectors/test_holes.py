"""What is left out of the sources, and for how long."""

from __future__ import annotations

from collectors.holes import Holes


def test_a_hole_is_told_before_it_is_over() -> None:
    """However late somebody asks; then until reading has come to the moment of telling. What is missed again is told
    again."""
    holes = Holes[str]()
    holes.add("a", "b")
    assert set(holes.told(done=50, now=100)) == {"a", "b"}
    assert set(holes.told(done=99, now=110)) == {"a", "b"}
    holes.add("b")
    assert set(holes.told(done=100, now=120)) == {"b"}
    assert set(holes.told(done=119, now=130)) == {"b"}
    assert set(holes.told(done=120, now=140)) == set()
