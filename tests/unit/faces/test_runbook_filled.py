from __future__ import annotations

from tracker.console.runbook import rendered, title

TEXT = """# lost: it never arrived

```sh
flow=orders
incident=inc-000000000000
pid=4711
tracker incidents ack "$incident"
```

flow=orders stays in prose. <script>alert(1)</script>
"""


def test_commands_are_filled_in_for_the_incident() -> None:
    """Only what the commands begin with, only in commands, and quoted for the shell; others stay as they are."""
    html = rendered(TEXT, {"flow": "it's mine; rm -rf /", "incident": "inc-1"})
    assert "flow='it'&quot;'&quot;'s mine; rm -rf /'\n" in html.replace("&#x27;", "'").replace("&#39;", "'")
    assert "incident=inc-1\n" in html
    assert "pid=4711\n" in html
    assert "flow=orders stays in prose." in html


def test_without_an_incident_it_is_as_it_was_written() -> None:
    """And HTML in it is text."""
    html = rendered(TEXT)
    assert "flow=orders\nincident=inc-000000000000\n" in html
    assert "<script>" not in html
    assert title(TEXT) == "lost: it never arrived"
