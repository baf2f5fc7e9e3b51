"""What cannot be brought back is given up by a person: the whole way through a real service, and what is on record."""

from tests.e2e.service import Service, now_us, tracker
from tests.e2e.test_service import SPEC, books, many


def test_an_incident_ends_with_what_was_parked_and_given_up(tmp_path):
    """Parked, opened again, given up: the incident ends by itself each time and says how many; the loss is named, the
    times are told, and the audit log that holds all of it is verified from a file."""
    service = Service(tmp_path, "--insecure").start()
    try:
        service.http.put("/v1/flows/orders", content=SPEC).raise_for_status()
        service.send(many("orders", 50, now_us(), {3, 14, 15}))
        service.until(lambda: books(service, "orders"), lambda b: b["verdicts"].get("unacknowledged") == 3)
        [one] = service.until(
            lambda: service.get("/v1/incidents")["items"], lambda all_: [i["open"] for i in all_] == [3]
        )
        path = f"/v1/incidents/{one['id']}"

        def ends(**counts):
            """Wait until it stands so."""
            wanted = {"open": 0, "parked": 0, "abandoned": 0, **counts}
            return service.until(lambda: service.get(path), lambda now: {n: now[n] for n in wanted} == wanted)

        for status, ids, counts in (
            ("parked", ["m-3"], {"parked": 1, "open": 2}),
            ("open", None, {"open": 3}),
            ("parked", ["m-3"], {"parked": 1, "open": 2}),
            ("abandoned", None, {"parked": 0, "abandoned": 3}),
        ):
            said = {"status": status, "reason": "poison", "message_ids": ids}
            assert service.http.post(f"{path}/findings", json=said).status_code == 202
            ends(**counts)
        now = service.get(path)
        assert (now["status"], now["lost"], now["acted_at"]) == ("resolved", 3, None)
        assert now["timeline"][-1]["what"] == "resolved: no finding is open; 3 findings: 3 abandoned"
        again = {"status": "parked", "reason": "again"}
        assert service.http.post(f"{path}/findings", json=again).status_code == 409
        lost = service.get(f"{path}/loss")
        assert (lost["lost"], {item["message_id"] for item in lost["items"]}) == (3, {"m-3", "m-14", "m-15"})
        shown = service.http.get(f"/incidents/{one['id']}").text
        assert all(text in shown for text in ("Lost for good", ">m-14<", "0 parked, 3 abandoned"))
        assert "is missing any more" not in shown
        [item] = service.get("/v1/recovery", flow="orders", **{"from": "-1h"})["items"]
        assert (item["findings"], item["abandoned"], item["lost"], item["incidents"]) == (3, 3, 3, 1)
        assert 0 <= item["detect"]["p50_s"] <= item["detect"]["p90_s"] < 60
        rulings = service.get("/v1/audit", subject=f"incident/{one['id']}")["items"]
        assert [(entry["what"], entry["detail"]["findings"]) for entry in rulings] == [
            ("rule", 1), ("rule", 1), ("rule", 1), ("rule", 3),
        ]  # fmt: skip
        file = tmp_path / "audit.ndjson"
        assert service.cli("audit", "export", str(file)).returncode == 0
    finally:
        service.close()
    assert tracker("audit", "verify", str(file)).returncode == 0
    file.write_text(file.read_text().replace("poison", "poisoN", 1))
    broken = tracker("audit", "verify", str(file))
    assert (broken.returncode, "it is not as it was written" in broken.stdout) == (1, True)
