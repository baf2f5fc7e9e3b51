"""Too many connections at once, at a real server with an app of a few lines."""

import socket
import threading
import time

import httpx
import uvicorn

from tests.servers.ports import free_port
from tracker.cli.connections import Connection


async def app(scope, receive, send):
    """Yes to everything."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_beyond_the_bound_requests_are_told_to_come_back():
    """503 as a problem, with Retry-After, and the connection is closed; when one has gone the next one is served."""
    port = free_port()
    config = uvicorn.Config(
        app, port=port, log_config=None, lifespan="off", http=type("Two", (Connection,), {"most": 2})
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        while len(server.server_state.connections) < 2:
            time.sleep(0.01)
        refused = httpx.get(f"http://127.0.0.1:{port}/")
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert (refused.headers["connection"], refused.json()["status"]) == ("close", 503)
        held.pop().close()
        while len(server.server_state.connections) > 1:
            time.sleep(0.01)
        assert httpx.get(f"http://127.0.0.1:{port}/").text == "ok"
        held.pop().close()
    finally:
        server.should_exit = True
        thread.join(10)
