"""What is told before a service begins."""

import pytest

from tracker.cli import service
from tracker.cli.errors import CommandError


def test_a_port_for_grpc_without_grpcio(monkeypatch):
    """What to install, and that there is another way."""
    monkeypatch.setattr(service, "find_spec", lambda name: None)
    with pytest.raises(CommandError, match=r"TRACKER_OTLP_GRPC_PORT=4317 .*'message-tracker\[grpc\]'.* over HTTP"):
        service._for_calls("127.0.0.1", 4317)
