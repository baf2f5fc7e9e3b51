import pytest

from tests.component.api.conftest import NOW, SPEC
from tracker.api.loopback import loopback

EVENT = b'{"flow": "orders", "message_id": "m", "hop": "checkout", "stage": "produce", "observed_at": 1800000000}'


def bearer(control, *scopes, expires=None):
    """Headers with a new token of these scopes."""
    _, text = control.tokens.create("test", scopes, NOW - 10, "me", expires)
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/flows", "read"),
        ("GET", "/metrics", "read"),
        ("GET", "/v1/replays", "read"),
        ("PUT", "/v1/flows/orders", "admin"),
        ("DELETE", "/v1/flows/orders", "admin"),
        ("POST", "/v1/events", "ingest"),
        ("POST", "/v1/coverage", "ingest"),
        ("POST", "/v1/replays", "replay"),
        ("POST", "/v1/replays/r-1/approve", "replay"),
        ("PATCH", "/v1/incidents/i-1", "replay"),
    ],
)
def test_every_path_needs_its_scope(client_of, control, method, path, scope):
    """No token and a wrong one are 401 with a challenge; a good one without the scope is 403 that names it."""
    client = client_of()
    body = {"flow": "orders"} if path == "/v1/replays" else {}
    for headers in ({}, {"Authorization": "Bearer mt_x_y"}, {"Authorization": "Basic eDp5"}):
        refused = client.request(method, path, json=body, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.headers["content-type"] == "application/problem+json"
    other = "ingest" if scope != "ingest" else "read"
    refused = client.request(method, path, json=body, headers=bearer(control, other))
    assert (refused.status_code, f"'{scope}'" in refused.json()["detail"]) == (403, True)


def test_what_machines_and_people_need_first_is_open(client_of):
    """Liveness, the API's description and the sign-in page need no token."""
    client = client_of()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/docs").status_code == 200


def test_an_expired_token_is_no_token(client_of, control):
    """A token is refused from its end on."""
    client = client_of()
    assert client.get("/v1/flows", headers=bearer(control, "read", expires=NOW + 1)).status_code == 200
    assert client.get("/v1/flows", headers=bearer(control, "read", expires=NOW - 1)).status_code == 401


def test_a_browser_signs_in_with_a_cookie_that_can_only_look(client_of, control):
    """The console asks for a token, keeps it in a cookie, and no write is accepted by that cookie alone."""
    client = client_of()
    assert client.get("/").status_code == 401
    assert "Sign in" in client.get("/").text
    wrong = client.post("/login", data={"token": "mt_x_y"}, follow_redirects=False)
    assert (wrong.status_code, "unknown" in wrong.text) == (401, True)
    text = bearer(control, "admin")["Authorization"].removeprefix("Bearer ")
    signed = client.post("/login", data={"token": text, "to": "//evil.example"}, follow_redirects=False)
    assert (signed.status_code, signed.headers["location"]) == (303, "/")
    assert "HttpOnly" in signed.headers["set-cookie"]
    assert "SameSite=strict" in signed.headers["set-cookie"]
    assert client.get("/v1/flows").status_code == 200
    assert client.put("/v1/flows", content=SPEC).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_without_tokens_other_sites_cannot_use_a_browser_here(client, headers):
    """Neither another origin nor a name that points at 127.0.0.1 is answered where nobody is asked for a token."""
    client.put("/v1/flows", content=SPEC).raise_for_status()
    refused = client.post("/v1/events", content=EVENT, headers=headers)
    assert refused.status_code == 403
    assert client.post("/v1/events", content=EVENT, headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("localhost.evil.example", False), ("evil.example", False)],
)  # fmt: skip
def test_what_is_this_machine_alone(host, is_ours):
    """Loopback addresses and localhost are; everything else is not."""
    assert loopback(host) is is_ours
