"""What the tracker declares, as its users have it: a service, its command line, and files that are checked alone."""

import json
import re

from tests.e2e.service import Service, now_us, tracker
from tests.e2e.test_service import SPEC, books, many


def test_a_statement_outlives_its_tracker_and_a_lost_hop_is_written_off(tmp_path):
    """Stated, chained over a restart, checked without the service; then the log's disk is gone, and what was still on
    its way is lost by name."""
    service = Service(tmp_path, "--insecure").start()
    try:
        service.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
        service.send(many("orders", 50, now_us(), {3, 14, 15}))
        service.until(lambda: books(service, "orders"), lambda b: b["verdicts"].get("unacknowledged") == 3)
        files = [tmp_path / f"orders-{number}.json" for number in (1, 2, 3)]
        assert _state(service, files[0]) == 1
        (tmp_path / "public.pem").write_text(service.get("/v1/statements/key")["public_key"])
        service.process.stop()
        service.start()
        assert _state(service, files[1]) == 1
        wanted = ("hops", "abandon", "kafka-eu", "--flow", "orders", "--since", "-1h")
        counted = json.loads(service.cli(*wanted, "--dry-run", "--json").stdout)
        assert (counted["copies"], counted["verdicts"]) == (50, {"delivered": 47, "unacknowledged": 3})
        assert json.loads(service.cli(*wanted, "--reason", "fire", "--json").stdout)["copies"] == 50
        service.until(lambda: books(service, "orders"), lambda b: b["verdicts"] == {"delivered": 47, "lost": 3})
        assert "abandoned" in service.cli("messages", "show", "orders", "m-14").stdout
        assert _state(service, files[2]) == 1
        lost = next(i for i in service.get("/v1/incidents")["items"] if i["kind"] == "lost")
        told = service.cli("incidents", "postmortem", lost["id"]).stdout
        assert ("lost for good (RPO)** | 3 |" in told, "drop (abandoned)" in told) == (True, True), told
        log = service.process.tail()
    finally:
        service.close()
    checked = tracker("reconcile", "--verify", *map(str, files), "--key", str(tmp_path / "public.pem"))
    assert (checked.returncode, checked.stdout.count("good ")) == (0, 3), checked.stdout
    said = json.loads(files[2].read_text())["statement"]
    assert {row["message_id"] for row in said["exceptions"]["listed"]} == {"m-3", "m-14", "m-15"}
    assert tracker("reconcile", "--verify", str(files[0]), str(files[2])).returncode == 1
    _forge(files[2])
    assert tracker("reconcile", "--verify", *map(str, files)).returncode == 1
    assert "PRIVATE KEY" not in log + "".join(file.read_text() for file in files)


def _state(service, file):
    """A statement in a file; the command's exit code."""
    return service.cli("reconcile", "orders", "--statement", "--out", str(file)).returncode


def _forge(file):
    """Somebody would like one message less on the list."""
    file.write_text(re.sub(r'"delivered": 47', '"delivered": 48', file.read_text()))
