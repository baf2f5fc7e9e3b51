"""Named questions: every `.sql` of `queries/` begins with a comment that says what it answers."""

from __future__ import annotations

from functools import cache
from importlib import resources

TIME_IN_ID = """multiIf(
        match(message_id, '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-7[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$'),
        toInt64(reinterpretAsUInt64(reverse(unhex(substring(replaceAll(message_id, '-', ''), 1, 12)))) * 1000),
        match(message_id, '^[0-7][0-9A-HJKMNP-TV-Z]{25}$'),
        arraySum((letter, worth) -> toInt64(position('0123456789ABCDEFGHJKMNPQRSTVWXYZ', letter) - 1) * worth,
            extractAll(substring(message_id, 1, 10), '.'),
            arrayMap(place -> bitShiftLeft(toInt64(1), 5 * (9 - place)), range(10))) * 1000,
        toInt64(0))"""
"""SQL of `tracker.model.origin.time_in_id`: microseconds in a UUIDv7 or ULID, else 0."""

LOST = "(status IN ('parked', 'abandoned') OR (status = 'open' AND kind = 'lost'))"
"""SQL: a finding whose message is lost for good, as far as findings say: nobody tries further, or no hop holds it."""


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
    for key, piece in {"db": database, "time_in_id": TIME_IN_ID, "lost": LOST, **pieces}.items():
        text = text.replace("{" + key + "}", piece)
    return text
