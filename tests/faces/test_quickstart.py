from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.e2e.service import Service, environment

PAGE = (ROOT / "docs/quickstart.md").read_text("utf-8")
STEPS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """What `tracker serve --insecure` starts, on a port of its own."""
    running = Service(tmp_path / "service", "--insecure").start()
    yield running
    running.close()


def _run(script: str, folder: Path, service: Service) -> subprocess.CompletedProcess[str]:
    env = environment(TRACKER_URL=service.url, COLUMNS="200")
    env["PATH"] = f"{ROOT / '.venv/bin'}:{env['PATH']}"
    return subprocess.run(["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_the_page_tells_the_truth(service: Service, tmp_path: Path) -> None:
    """Every block of the page, run in its order, does what it says: m-2 lost, m-3 unacknowledged, then back."""
    serve, spec, put, send, look, again, back = (body for _, body in STEPS)
    assert serve.strip() == "tracker serve --insecure"
    (tmp_path / "orders.yaml").write_text(spec)
    assert _run(put, tmp_path, service).returncode == 0
    for _ in range(2):
        sent = _run(send, tmp_path, service)
        assert sent.returncode == 0, sent.stderr
        assert "6 accepted, 0 quarantined" in sent.stdout
    service.until(lambda: service.get("/v1/findings")["items"], lambda found: len(found) >= 3)
    found = _run(look, tmp_path, service)
    assert found.returncode == 1, found.stderr
    books = service.get("/v1/flows/orders/reconciliation")
    assert books["produced"] == 3
    assert books["verdicts"] == {"delivered": 1, "lost": 1, "unacknowledged": 1}
    assert re.search(r"m-2 +lost +kafka-eu", found.stdout)
    assert re.search(r"m-3 +unacknowledged +billing", found.stdout)
    assert "conserved: the books agree" in found.stdout
    assert _run(again, tmp_path, service).returncode == 0
    recovered = {"status": "recovered"}
    service.until(lambda: service.get("/v1/findings", **recovered)["items"], lambda found: len(found) == 1)
    shown = _run(back, tmp_path, service)
    assert shown.returncode == 0, shown.stderr
    assert "m-3" in shown.stdout
    assert service.get("/v1/findings", **recovered)["items"][0]["by"] == "itself"
