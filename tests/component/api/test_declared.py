"""Who may make the tracker declare something, and what is refused before anything is asked of the ledger."""

import pytest

HOP = {"flow": "orders", "hop": "billing", "since": "-1h"}


@pytest.fixture
def token_of(control):
    """Makes tokens with one scope each; gives their headers."""

    def make(scope):
        secret = control.tokens.create(f"t-{scope}", [scope], now=0, by="test")[1]
        return {"Authorization": f"Bearer {secret}"}

    return make


def test_only_an_admin_writes_a_hop_off(client_of, token_of):
    """Also to count needs it: the answer is a plan for the deed."""
    client = client_of()
    for scope in ("ingest", "read", "replay"):
        assert client.post("/v1/hops/abandon", json=HOP, headers=token_of(scope)).status_code == 403
    assert client.post("/v1/hops/abandon", json=HOP, headers=token_of("admin")).status_code == 404


def test_who_may_only_look_gets_statements_and_makes_none(client_of, token_of):
    """A statement stays for ever, in the installation's name."""
    client = client_of()
    for scope in ("ingest", "read"):
        assert client.post("/v1/flows/orders/statements", json={}, headers=token_of(scope)).status_code == 403
    assert client.post("/v1/flows/orders/statements", json={}, headers=token_of("replay")).status_code == 404
    look = token_of("read")
    flow = "/v1/flows/orders"
    for path in (f"{flow}/statements", f"{flow}/statements/1", f"{flow}/exceptions", "/v1/incidents/i-1/postmortem"):
        assert client.get(path, headers=look).status_code == 404
        assert client.get(path, headers=token_of("ingest")).status_code == 403


def test_what_cannot_be_meant_is_named(client):
    """A hop that the flow has not, a span that ends before it begins, a time that is none."""
    client.put(
        "/v1/flows", content="flow: orders\ncheckpoints:\n  - {hop: billing, stage: produce}\n"
    ).raise_for_status()
    for change, status, told in (
        ({"hop": "biling"}, 404, "it has: billing"),
        ({"until": "-2h"}, 422, "`until` must lie after `since`"),
        ({"since": "yesterday"}, 422, "since"),
        ({"sinse": "-1h"}, 422, "sinse"),
        ({"unseen": True}, 422, "billing is not the one hop"),
    ):
        answer = client.post("/v1/hops/abandon", json=HOP | change)
        assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text


def test_statements_of_an_unknown_flow_are_404_and_of_a_known_one_a_list(client):
    """No statement yet is an empty list."""
    client.put(
        "/v1/flows", content="flow: orders\ncheckpoints:\n  - {hop: billing, stage: produce}\n"
    ).raise_for_status()
    assert client.get("/v1/flows/orders/statements").json() == {"items": [], "next": None}
    assert client.get("/v1/flows/nobody/statements").status_code == 404
    assert client.get("/v1/flows/orders/statements/7").status_code == 404


def test_without_a_place_for_a_key_the_answer_says_what_to_set(client):
    """As where the control database is a PostgreSQL."""
    answer = client.get("/v1/statements/key")
    assert (answer.status_code, "TRACKER_STATEMENT_KEY" in answer.json()["detail"]) == (422, True)


def test_who_may_say_what_becomes_of_findings(client_of, token_of):
    """Whoever may replay may give up; looking at the loss and at times needs `read`."""
    client = client_of()
    said = {"status": "parked", "reason": "poison"}
    for scope, status in (("ingest", 403), ("read", 403), ("audit", 403), ("replay", 404)):
        assert client.post("/v1/incidents/i-1/findings", json=said, headers=token_of(scope)).status_code == status
    assert client.get("/v1/incidents/i-1/loss", headers=token_of("read")).status_code == 404
    admin = token_of("admin")
    for change in ({"status": "lost"}, {"reason": ""}, {"message": "m-1"}):
        assert client.post("/v1/incidents/i-1/findings", json=said | change, headers=admin).status_code == 422
    for asked in ({"from": "now", "to": "-1h"}, {"step": "0s"}, {"from": "-365d", "step": "1m"}, {"step": "soon"}):
        assert client.get("/v1/recovery", params=asked, headers=admin).status_code == 422, asked
