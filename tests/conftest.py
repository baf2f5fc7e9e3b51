"""What every test may use, and what every property asks of the machine: nothing. How quick it is fails no test."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers.plugin", "tests.servers.postgres"]

settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
