"""Named questions: every `.sql` of `queries/` begins with a comment that says what it answers."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def question(name: str) -> str:
    """The text of `queries/NAME.sql`, without its opening comment. `{db}` in it stands for the database."""
    text = resources.files("tracker.store").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    head, _, body = text.partition("\n")
    if not head.startswith("-- "):
        raise ValueError(f"queries/{name}.sql must begin with a comment that says what it answers")
    return body


def ask(name: str, database: str, **pieces: str) -> str:
    """The question with the database and generated SQL pieces filled in; values always go as parameters."""
    text = question(name)
    for key, piece in {"db": database, **pieces}.items():
        text = text.replace("{" + key + "}", piece)
    return text
