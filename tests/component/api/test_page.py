from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "api.md"


def test_every_path_has_its_place_in_the_page(client):
    """docs/api.md names each method and path of the API, and nothing that is not there."""
    document = client.get("/openapi.json").json()
    text = PAGE.read_text("utf-8")
    paths = {f"`{m.upper()} {p}`" for p, methods in document["paths"].items() for m in methods}
    assert [path for path in sorted(paths) if path not in text] == []


def test_the_description_is_a_page_of_our_own(client):
    """/docs lists every operation and fetches nothing from elsewhere."""
    page = client.get("/docs")
    assert page.status_code == 200
    assert "/v1/flows/{flow}/reconciliation" in page.text
    assert "https://" not in page.text.replace("https://github.com", "")
