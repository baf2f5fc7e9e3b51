import pytest

from tests.component.api.conftest import SPEC


def test_a_spec_is_put_shown_and_listed(client):
    """A new flow is 201 with version 1; it comes back as it was put, as YAML or JSON."""
    put = client.put("/v1/flows/orders", content=SPEC)
    assert (put.status_code, put.json()["version"], put.json()["owner"]) == (201, 1, "team-payments")
    got = client.get("/v1/flows/orders")
    assert (got.json()["text"], got.json()["spec"]["checkpoints"][1]["within"]) == (SPEC, 5_000_000)
    assert client.get("/v1/flows/orders", headers={"Accept": "application/yaml"}).text == SPEC
    assert [item["flow"] for item in client.get("/v1/flows").json()["items"]] == ["orders"]


def test_the_same_spec_again_changes_nothing_and_a_new_one_is_a_version(client):
    """Comments and order of keys make no version; another deadline does."""
    client.put("/v1/flows", content=SPEC).raise_for_status()
    again = client.put("/v1/flows", content="# the same\n" + SPEC)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    changed = client.put("/v1/flows", content=SPEC.replace("5s", "6s"))
    assert (changed.status_code, changed.json()["version"]) == (200, 2)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (SPEC.replace("owner", "ownr"), 2, "unknown key `ownr`"),
        (SPEC.replace("after: checkout", "after: chekout"), 5, "chekout"),
        (
            SPEC.replace("hop: checkout, stage: produce", "hop: checkout, stage: produce, after: billing, within: 1s"),
            4,
            "circle",
        ),
        ("flow: [\nowner", 2, "YAML"),
        (SPEC.replace("flow: orders", "flow: other"), 1, "other"),
    ],
)
def test_a_bad_spec_is_refused_with_its_line(client, text, line, words):
    """A spec that cannot be used is 422, and the problem names the line and what is wrong."""
    refused = client.put("/v1/flows/orders", content=text)
    problem = refused.json()
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert problem["line"] == line
    assert words in problem["detail"]
    assert client.get("/v1/flows").json()["items"] == []


def test_a_deleted_flow_is_gone_until_it_is_put_again(client):
    """Delete is 204, then the flow is unknown; a second delete says so."""
    client.put("/v1/flows", content=SPEC).raise_for_status()
    assert client.delete("/v1/flows/orders").status_code == 204
    assert client.get("/v1/flows/orders").status_code == 404
    assert client.delete("/v1/flows/orders").status_code == 404
    assert client.put("/v1/flows", content=SPEC).json()["version"] == 2


def test_a_write_with_an_idempotency_key_is_done_once(client, control):
    """The same request under the same key is answered the same; another request under it is a conflict."""
    headers = {"Idempotency-Key": "k-1"}
    first = client.put("/v1/flows/orders", content=SPEC, headers=headers)
    second = client.put("/v1/flows/orders", content=SPEC, headers=headers)
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    assert client.put("/v1/flows/orders", content=SPEC + "\n", headers=headers).status_code == 409
    assert [entry.what for entry in control.audit.entries().items] == ["put"]


def test_flows_are_paged_by_cursor(client):
    """A page says where the next begins; the last one says that there is none."""
    for name in ("a", "b", "c"):
        client.put("/v1/flows", content=SPEC.replace("orders", name)).raise_for_status()
    first = client.get("/v1/flows", params={"limit": 2}).json()
    assert ([item["flow"] for item in first["items"]], first["next"]) == (["a", "b"], "b")
    second = client.get("/v1/flows", params={"limit": 2, "cursor": "b"}).json()
    assert ([item["flow"] for item in second["items"]], second["next"]) == (["c"], None)


BUSINESS = SPEC.replace("hop: billing, stage: ack", "hop: kafka-eu, stage: persist")
LANE = BUSINESS.replace("flow: orders", "flow: orders.canary\ncanary: true")


@pytest.mark.parametrize(("first", "second"), [(BUSINESS, LANE), (LANE, BUSINESS)])
def test_canaries_and_business_share_no_place(client, first, second):
    """A hop that keeps messages is one or the other's, whichever comes first: a replay is sent to a hop."""
    client.put("/v1/flows", content=first).raise_for_status()
    refused = client.put("/v1/flows", content=second)
    assert refused.status_code == 422
    assert "hop 'kafka-eu'" in refused.json()["detail"]


def test_a_lane_of_its_own_is_taken_and_may_change(client):
    """Other hops are shared freely, and a lane does not stand in its own way."""
    lane = LANE.replace("kafka-eu", "kafka-eu.canary")
    client.put("/v1/flows", content=BUSINESS).raise_for_status()
    assert client.put("/v1/flows", content=lane).status_code == 201
    assert client.put("/v1/flows", content=lane.replace("5s", "6s")).json()["version"] == 2
    assert client.get("/v1/flows/orders.canary").json()["spec"]["canary"]
    assert "canary" not in client.get("/v1/flows/orders").json()["spec"]
