"""Other people's text in our Markdown stays text, whoever renders it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tracker.api.markdown import block, code, plain, render, span, when

NASTY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("`|\\[]()<>!#*_~-=+. \n\r\t@:/&;ax", max_size=40),
    st.sampled_from([
        "[x](javascript:alert(1))", "<script>", "![](http://e/x.png)", "\n# heading", "\n\n---\n", "@all", "```\n```",
        "| a |", "https://evil.example", "&lt;b&gt;", "\u202eevil", "a\u2028b", "\x1b[31m", "{{ 7*7 }}", "{% raw %}",
    ]),
)  # fmt: skip
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@given(NASTY)
def test_a_value_is_one_code_span_and_nothing_else(text: str) -> None:
    """In a list, a heading, a paragraph: what was given is shown, and nothing of it is read."""
    for before, kind in (("- ", "inline"), ("# ", "inline"), ("word ", "inline")):
        inline = [token for token in MARKDOWN.parse(f"{before}{code(text)}\n") if token.type == kind]
        assert len(inline) == 1
        spans = [child for child in inline[0].children or [] if child.type != "text" or child.content.strip()]
        if plain(text).strip():
            assert [child.content for child in spans if child.type == "code_inline"] == [plain(text)]
            assert {child.type for child in spans} <= {"code_inline", "text"}


@given(st.lists(NASTY, max_size=4))
def test_a_block_holds_its_lines(lines: list[str]) -> None:
    """No line ends the block or becomes a heading: it is one fence, with a line for each."""
    tokens = MARKDOWN.parse(f"{block(lines)}\n\nafter\n")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].content == "".join(f"{plain(line)}\n" for line in lines)


@given(NASTY)
def test_what_cannot_be_seen_is_shown_by_its_number(text: str) -> None:
    """No line breaks, no terminal codes, no turned text."""
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b]", plain(text))


def test_long_values_are_cut_and_say_so() -> None:
    """A reason of a megabyte does not fill the page."""
    assert plain("x" * 5000) == "x" * 2000 + "... (5000 characters)"


def test_times_and_spans_are_short() -> None:
    """To the millisecond; what is not known is a dash."""
    assert (when(1_800_000_000_123_456), when(0), when(None)) == ("2027-01-15T08:00:00.123Z", "-", "-")
    assert (span(1_500_000), span(None), span(0)) == ("1.5s", "-", "0ms")


def test_a_template_cannot_forget_to_escape() -> None:
    """Values are code without being told so; only numbers and plain words are printed bare."""
    nasty = "[x](y) <b>"
    incident = {"id": nasty, "kind": "lost", "hop": nasty, "stage": "persist", "flow": nasty, "owner": nasty,
                "note": nasty, "status": "open", "total": 0,
                "open": 0, "recovered": 0, "withdrawn": 0, "superseded": 0, "parked": 0, "abandoned": 0,
                "detect_p50": None, "detect_p90": None, "resolved_at": None}  # fmt: skip
    facts = dict.fromkeys(("first_origin", "first_deadline", "first_known", "first_opened", "last_opened", "by_replay",
                           "by_itself", "replay_p50", "replay_p90", "itself_p50", "itself_p90", "messages", "lost",
                           "caused"), 0)  # fmt: skip
    text = render(
        "postmortem.md",
        {"incident": incident, "facts": facts, "as_of": 1, "runbook": nasty, "acknowledged": None, "to_act": None,
         "findings": [{"message_id": nasty, "status": nasty, "by": nasty, "opened_at": 1, "held_by": [nasty]}],
         "loss": {"lost": 2, "parked": 1, "abandoned": 0, "gone": 1, "unknown": 1, "retrievable": 1},
         "lost": [{"message_id": nasty, "status": "open", "origin_at": 1}], "loss_command": [nasty],
         "command": [nasty], "history": [{"at": 1, "who": nasty, "what": nasty}], "replays": [],
         "evidence": [{"message_id": nasty, "verdict": "lost", "why": nasty, "lines": [nasty]}],
         "blind_spots": [{"hop": nasty, "stage": nasty, "start": 1, "end": 2, "cause": nasty, "source": nasty}],
         "spots_left": 1},
    )  # fmt: skip
    kinds = {child.type for token in MARKDOWN.parse(text) for child in token.children or []}
    assert kinds <= {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
    assert not {token.type for token in MARKDOWN.parse(text)} & {"html_block"}
