"""What every test may use."""

pytest_plugins = ["tests.servers.plugin", "tests.servers.postgres"]
