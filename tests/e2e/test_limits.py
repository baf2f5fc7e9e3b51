"""Clients that ask for too much, or are slow, at a real service: they are told, and nobody else notices."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.service import Service, now_us
from tests.e2e.test_service import SPEC

READ_S = "1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One with tight limits that asks nobody for a token."""
    running = Service(tmp_path_factory.mktemp("limits"), "--insecure", TRACKER_READ_S=READ_S).start()
    running.http.put("/v1/flows", content=SPEC).raise_for_status()
    yield running
    running.close()


def event(message_id: str) -> dict[str, object]:
    """One line."""
    return {"flow": "orders", "message_id": message_id, "hop": "checkout", "stage": "produce", "observed_at": now_us()}


def connected(service: Service) -> socket.socket:
    """A connection to it."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def answered(client: socket.socket) -> bytes:
    """What comes until the other side closes."""
    got = b""
    try:
        while part := client.recv(65536):
            got += part
    except ConnectionResetError:
        pass
    return got


def trickle(client: socket.socket, data: bytes) -> None:
    """A byte now and then, until it is all sent or the other side has closed."""
    try:
        for n in range(len(data)):
            client.sendall(data[n : n + 1])
            time.sleep(0.2)
    except OSError:
        pass


def test_a_client_that_sends_nothing_is_let_go(service: Service) -> None:
    """An open connection without a request does not stay for ever."""
    with connected(service) as client:
        assert answered(client) == b""


def test_headers_that_come_byte_by_byte(service: Service) -> None:
    """They are given up on, and so are line breaks that begin no request."""
    for data in (b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"x" * 60, b"\r\n" * 30):
        with connected(service) as client:
            trickle(client, data)
            assert b"200 OK" not in answered(client)


def test_a_body_that_comes_byte_by_byte_is_408(service: Service) -> None:
    """It is told why, and its slot is free again."""
    with connected(service) as client:
        client.sendall(b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n")
        thread = threading.Thread(target=trickle, args=(client, b"{" * 90))
        thread.start()
        got = answered(client)
        thread.join()
    assert b"408 Request Timeout" in got
    assert b"did not come within" in got


def test_headers_without_end_are_not_kept(service: Service) -> None:
    """Some megabytes of them end the connection before anybody has read them as a request."""
    with connected(service) as client:
        try:
            for _ in range(400):
                client.sendall(b"X" * 16384)
        except OSError:
            return
        assert b"200 OK" not in answered(client)


def test_an_answer_that_is_not_taken(service: Service) -> None:
    """A client that asks and does not read holds nothing for long."""
    lines = "\n".join("x" * 4000 for _ in range(1000))
    service.http.post("/v1/events", content=lines)
    with connected(service) as client:
        asked = b"GET /v1/quarantine?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        client.sendall(asked * 20)
        service.until(lambda: "did not take its answer" in service.process.log.read_text(), bool)
        assert answered(client).count(b"200 OK") < 20


def test_a_quick_client_keeps_its_connection(service: Service) -> None:
    """Requests one after another, also with pauses in between, go over one connection."""
    with httpx.Client(base_url=service.url) as http:
        for n in range(3):
            assert http.post("/v1/events", content=json.dumps(event(f"k-{n}"))).status_code == 200
            time.sleep(float(READ_S) * 0.7)


def test_more_than_a_token_may_send(tmp_path: Path) -> None:
    """429 with Retry-After for the one that sends too much; after that time it is taken again, and others always."""
    service = Service(tmp_path, TRACKER_RATE_EVENTS="50").start()
    try:
        admin, greedy, modest = tokens(service)
        service.http.put("/v1/flows", content=SPEC, headers=admin).raise_for_status()
        body = "\n".join(json.dumps(event(f"g-{n}")) for n in range(650))
        assert service.http.post("/v1/events", content=body, headers=greedy).status_code == 200
        refused = service.http.post("/v1/events", content=body, headers=greedy)
        assert refused.status_code == 429
        assert "50 events" in refused.json()["detail"]
        assert service.http.post("/v1/events", content=json.dumps(event("m")), headers=modest).status_code == 200
        time.sleep(int(refused.headers["Retry-After"]))
        assert service.http.post("/v1/events", content=json.dumps(event("g")), headers=greedy).status_code == 200
        metrics = service.http.get("/metrics", headers=admin).text
        assert 'tracker_ingest_refused_total{reason="rate",status="429"} 1.0' in metrics
    finally:
        service.close()


def test_a_token_with_a_limit_of_its_own(tmp_path: Path) -> None:
    """It holds while the service runs: from the next batch on, for that token alone, until it is lifted."""
    service = Service(tmp_path).start()
    try:
        admin, *_ = tokens(service)
        service.http.put("/v1/flows", content=SPEC, headers=admin).raise_for_status()
        made = json.loads(service.cli("token", "create", "slow", "--scope", "ingest", "--rate-events", "5",
                                      "--json").stdout)  # fmt: skip
        slow = {"Authorization": f"Bearer {made['token']}"}
        body = "\n".join(json.dumps(event(f"s-{n}")) for n in range(2000))
        assert service.http.post("/v1/events", content=body, headers=slow).status_code == 200
        refused = service.http.post("/v1/events", content=body, headers=slow)
        assert (refused.status_code, "more than 5 events a second" in refused.json()["detail"]) == (429, True)
        assert service.http.post("/v1/events", content=body, headers=admin).status_code == 200
        lifted = service.cli("token", "limit", made["id"], "--rate-events", "0", "--rate-mb", "2")
        assert "(slow): any events, 2 MB/s" in lifted.stdout
        assert service.http.post("/v1/events", content=body, headers=slow).status_code == 200
        [row] = [one for one in json.loads(service.cli("token", "list", "--json").stdout) if one["id"] == made["id"]]
        assert (row["rate_events"], row["rate_bytes"]) == (0, 2 << 20)
        assert "any events, 2 MB/s" in service.cli("token", "list").stdout
    finally:
        service.close()


@pytest.mark.slow
def test_a_greedy_client_does_not_starve_a_modest_one(tmp_path: Path) -> None:
    """While one token sends as much as it can over many connections, another's small batches are all taken at once."""
    service = Service(tmp_path, TRACKER_INGEST_SLOTS="8").start()
    try:
        admin, greedy, modest = tokens(service)
        service.http.put("/v1/flows", content=SPEC, headers=admin).raise_for_status()
        body = "\n".join(json.dumps(event(f"g-{n}")) for n in range(5_000))
        ended, statuses = threading.Event(), list[int]()

        def send() -> None:
            with httpx.Client(base_url=service.url, timeout=60, headers=greedy) as http:
                while not ended.is_set():
                    answer = http.post("/v1/events", content=body)
                    statuses.append(answer.status_code)
                    if answer.status_code == 503:
                        assert int(answer.headers["Retry-After"]) > 0
                        time.sleep(0.05)

        threads = [threading.Thread(target=send) for _ in range(16)]
        for thread in threads:
            thread.start()
        try:
            service.until(lambda: statuses.count(503), lambda count: count > 10)
            taken = [
                service.http.post("/v1/events", content=json.dumps(event(f"m-{n}")), headers=modest).status_code
                for n in range(20)
            ]
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert taken == [200] * 20
        assert 200 in statuses
        assert set(statuses) == {200, 503}
    finally:
        service.close()


def tokens(service: Service) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Headers of an admin and of two senders."""
    text = service.process.log.read_text()
    admin = text[text.index("mt_") :].split()[0]
    made = [
        json.loads(service.cli("token", "create", name, "--scope", "ingest", "--json").stdout)["token"]
        for name in ("greedy", "modest")
    ]
    first, second, third = ({"Authorization": f"Bearer {token}"} for token in (admin, *made))
    return first, second, third
