"""The one error of this package, as ClickHouse words it: a client knows what to do by its code.

Codes are ClickHouse's own (src/Common/ErrorCodes.cpp), statuses those that its server answers with
(src/Server/HTTP/exceptionCodeToHTTPStatus.cpp), but for TOO_MANY_SIMULTANEOUS_QUERIES: 503, which clients try again.
"""

from __future__ import annotations

import re

NAMES = {
    48: "NOT_IMPLEMENTED",
    60: "UNKNOWN_TABLE",
    62: "SYNTAX_ERROR",
    73: "UNKNOWN_FORMAT",
    81: "UNKNOWN_DATABASE",
    115: "UNKNOWN_SETTING",
    164: "READONLY",
    194: "REQUIRED_PASSWORD",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    210: "NETWORK_ERROR",
    307: "TOO_MANY_BYTES",
    344: "SUPPORT_IS_DISABLED",
    396: "TOO_MANY_ROWS_OR_BYTES",
    472: "SETTING_CONSTRAINT_VIOLATION",
    497: "ACCESS_DENIED",
    516: "AUTHENTICATION_FAILED",
    620: "QUERY_NOT_ALLOWED",
}
_STATUS = {48: 501, 159: 408, 194: 401, 202: 503, 210: 503}
_STATUS |= dict.fromkeys((192, 193, 497, 516, 620), 403)
_STATUS |= dict.fromkeys((6, 15, 16, 25, 26, 27, 36, 38, 41, 44, 53, 62, 69, 72, 117, 167, 168, 441, 427, 457), 400)
_STATUS |= dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 115), 404)
_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_ASIDE = re.compile(r": In scope SELECT formatQuerySingleLine\(.*(?= \([A-Z_]+\)$)", re.DOTALL)
"""What a syntax error says of how we looked at the statement, which is nobody's business."""


class Refused(Exception):
    """A question that was not answered. `code` is ClickHouse's, the text what its server would send."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {why}. ({NAMES[code]})" if code in NAMES else why)
        self.code = code

    @classmethod
    def of(cls, text: str) -> Refused:
        """What the engine said."""
        found = _CODE.search(text)
        refused = cls(0, _ASIDE.sub("", text[found.start() :] if found else text))
        refused.code = int(found[1]) if found else 1002
        return refused

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return _STATUS.get(self.code, 500)
