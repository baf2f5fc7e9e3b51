"""A pytest plugin for runs against mutants: the same examples each time, and a failure is not made smaller first."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings


def pytest_configure() -> None:
    """Load the profile before tests are collected; what a test sets itself, as its number of examples, stays."""
    profile()


def profile() -> None:
    """Use it in this process."""
    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
