"""A simulated world against a running service, in real time."""

import json

from tests.e2e.service import Service

WORLD = """
name: real-time
about: A consumer loses some, and takes others twice.
flow:
  flow: orders
  checkpoints:
    - {hop: shop, stage: produce}
    - {hop: queue, stage: persist, after: shop, within: 3s}
    - {hop: mailer, stage: ack, after: queue, within: 4s, at_most: 1}
messages: 100
over: 4s
until: 16s
report_every: 1s
pass_every: 2s
pace: {shop: [1ms, 5ms], queue: [1ms, 50ms], mailer: [1ms, 200ms]}
faults:
  - {kind: drop, place: mailer, share: 0.2}
  - {kind: duplicate, place: mailer, share: 0.1}
"""


def test_a_running_service_finds_what_is_true(tmp_path):
    """As a flow of its own, with the service's own passes; nothing is left of the flow."""
    (tmp_path / "real-time.yaml").write_text(WORLD)
    service = Service(tmp_path / "service", "--insecure").start()
    try:
        answer = service.cli("simulate", "--scenario", str(tmp_path / "real-time.yaml"), "--url", service.url, "--json")
        assert answer.returncode == 0, answer.stderr
        [score] = json.loads(answer.stdout)["scenarios"]
        assert score["perfect"]
        assert score["verdicts"]["unacknowledged"]["found"] > 5
        assert service.get("/v1/flows")["items"] == []
    finally:
        service.close()
