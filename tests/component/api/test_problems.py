import pytest

from tracker.api.problem import Problem, status_of, turned_away
from tracker.control import errors as control
from tracker.ingest import errors as ingest
from tracker.model import errors as model
from tracker.slo.metrics import Metrics


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/healthz", 405),
        ("GET", "/v1/flows?limit=0", 422),
        ("GET", "/v1/flows/none", 404),
        ("GET", "/v1/incidents/none", 404),
        ("PATCH", "/v1/incidents/none", 422),
        ("GET", "/v1/incidents?cursor=x", 422),
        ("GET", "/v1/replays", 503),
        ("GET", "/runbooks/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/findings", 500),
    ],
)
def test_every_error_is_a_problem(client, method, path, status):
    """Unknown paths, wrong methods, bad queries and our own bugs alike are answered as RFC 9457 problem details."""
    answer = client.request(method, path)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert problem["status"] == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (control.NotFound("x"), 404),
        (control.LeaseLost("x"), 409),
        (control.Unauthenticated("x"), 401),
        (control.Unavailable("x"), 503),
        (ingest.Busy("x"), 503),
        (ingest.TooLarge("x"), 413),
        (model.SpecError("x", 3), 422),
        (model.Unavailable("x"), 503),
        (ValueError("x"), 500),
    ],
)
def test_errors_stand_for_statuses(error, status):
    """Each of our errors has one status, by its nearest ancestor that has one."""
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Problem(503, "x", cause="share"), "503", "share"),
        (Problem(408, "x"), "408", "request"),
        (ingest.TooLarge("x"), "413", "request"),
        (ingest.Busy("x"), "503", "memory"),
        (ingest.Busy("x", "closing"), "503", "closing"),
        (model.Unavailable("x"), "503", "store"),
        (control.Unavailable("x"), "503", "control"),
    ],
)
def test_what_is_turned_away_is_counted_with_the_reason(error, status, reason):
    """Whoever is woken by it has to know whether it is the tracker's fault or a sender's, and which."""
    metrics = Metrics()
    assert turned_away(metrics, error) == int(status)
    labels = {"status": status, "reason": reason}
    assert metrics.registry.get_sample_value("tracker_ingest_refused_total", labels) == 1


def test_our_own_bugs_keep_their_details_to_the_log(client):
    """A caller is told that it is our fault, not how our code looks."""
    detail = client.get("/v1/findings").json()["detail"]
    assert "tracker's own" in detail
    assert "NoneType" not in detail


@pytest.mark.parametrize("path", ["/v1/replays", "/v1/incidents/i-1/findings"])
def test_no_messages_are_not_all_messages(client, path):
    """A list that somebody's filter left empty selects nothing, not everything."""
    body = {"flow": "orders"} if path == "/v1/replays" else {"status": "abandoned", "reason": "gone"}
    answer = client.post(path, json=body | {"message_ids": []})
    assert (answer.status_code, "message_ids" in answer.json()["detail"]) == (422, True)
    assert client.post(path, json=body).status_code != 422
