"""Small faults in SQL, and in the Python that writes SQL: one token, or one condition, is another.

No parser of SQL reads the engine's dialect with our placeholders in it, so this goes by tokens: comparisons, AND and
OR, NOT and IN, minimum and maximum, plus and minus, numbers, true and false, the branches of an `if`; and each
condition joined by AND is left out. What concerns `tenant` is left alone: there is but one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = re.compile(
    r"(?P<skip>'(?:[^'\\\n]|\\.)*'|--[^\n]*|tenant = ''(?: AND )?|\{\{[^{}]*\}\}|\{(?:[^{}]|\{[^{}]*\})*\})"
    r"|(?P<word>[A-Za-z_][\w.]*)|(?P<number>\d+)|(?P<sign><=|>=|!=|==|->|<<|>>|\*\*|[-+=<>(),\[\]])"
)
SWAPS = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "=": "!=", "!=": "=", "==": "!=", "+": "-", "-": "+",
    "AND": "OR", "OR": "AND", "and": "or", "or": "and", "true": "false", "false": "true", "NOT": "", "not": "",
    "IN": "NOT IN", "any": "all", "all": "any",
    "min": "max", "max": "min", "minIf": "maxIf", "maxIf": "minIf", "minForEach": "maxForEach", "least": "greatest",
    "greatest": "least", "argMax": "argMin", "argMin": "argMax", "groupBitOr": "groupBitAnd", "DISTINCT": "",
}  # fmt: skip
BEGIN = {"WHERE", "HAVING", "ON", "AND"}
END = {"AND", "OR", "WHERE", "HAVING", "GROUP", "ORDER", "LIMIT", "UNION", "SETTINGS", "ON", "INNER", "AS", ","}


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, line `line` was `before` and is `after`; `text` is the whole file with it."""

    file: str
    line: int
    before: str
    after: str
    text: str

    @property
    def name(self) -> str:
        """Which it is, in one line."""
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every fault of one file of the tree at `root`, in its order."""
    text = (root / file).read_text(encoding="utf-8")
    spans = _written(text) if file.endswith(".py") else [(text.index("\n") + 1, len(text), True)]
    found: dict[str, Mutant] = {}
    for start, end, is_sql in spans:
        for low, high, other in _faults(text, start, end, is_sql):
            changed = text[:low] + other + text[high:]
            found.setdefault(changed, _mutant(file, text, low, high, changed))
    return sorted(found.values(), key=lambda m: m.line)


def _mutant(file: str, text: str, low: int, high: int, changed: str) -> Mutant:
    begin, stop = text.rfind("\n", 0, low) + 1, text.find("\n", high)
    stop = len(text) if stop < 0 else stop
    after = changed[begin : stop + len(changed) - len(text)]
    squeezed = [" ".join(lines.split()) for lines in (text[begin:stop], after)]
    return Mutant(file, text.count("\n", 0, low) + 1, squeezed[0], squeezed[1], changed)


def _faults(text: str, start: int, end: int, is_sql: bool) -> Iterator[tuple[int, int, str]]:
    """(from, to, what to put there instead)."""
    tokens = [t for t in TOKEN.finditer(text, start, end) if not (t.lastgroup == "skip" and t[0].startswith("--"))]
    for n, token in enumerate(tokens):
        word = token[0]
        if token.lastgroup == "number":
            if tokens[n - 1][0] in ("<", "<=", ">", ">="):  # the comparison is mutated itself
                continue
            yield token.start(), token.end(), str(int(word) + 1)
        elif word == "IN" and tokens[n - 1][0] == "NOT":
            continue  # taken with its NOT
        elif word in SWAPS and token.lastgroup != "skip" and (is_sql or word not in ("=", "-", "+")):
            yield token.start(), token.end(), SWAPS[word]
        elif word == "if" and n + 1 < len(tokens) and tokens[n + 1][0] == "(":
            yield from _branches(text, tokens, n + 1)
    if is_sql:
        yield from _conditions(text, tokens)


def _branches(text: str, tokens: list[re.Match[str]], opened: int) -> Iterator[tuple[int, int, str]]:
    """`if(c, a, b)` becomes a, and b."""
    commas, depth, n = [], 0, opened
    while n < len(tokens):
        depth += {"(": 1, ")": -1}.get(tokens[n][0], 0)
        if depth == 0:
            break
        if depth == 1 and tokens[n][0] == ",":
            commas.append(tokens[n])
        n += 1
    if depth == 0 and len(commas) == 2:
        first, second = commas
        whole = tokens[opened - 1].start(), tokens[n].end()
        yield *whole, text[first.end() : second.start()].strip()
        yield *whole, text[second.end() : tokens[n].start()].strip()


def _conditions(text: str, tokens: list[re.Match[str]]) -> Iterator[tuple[int, int, str]]:
    """Each condition that is joined by AND, or stands alone, is always true."""
    for n, token in enumerate(tokens):
        first_of_and = token[0] == "(" or n == 0
        if not (token[0] in BEGIN or first_of_and):
            continue
        begin = n + 1 if token[0] in BEGIN or token[0] == "(" else n
        stop, depth = begin, 0
        while stop < len(tokens):
            word = tokens[stop][0]
            if depth == 0 and (word in END or word == ")"):
                break
            depth += {"(": 1, ")": -1}.get(word, 0)
            stop += 1
        joined = stop < len(tokens) and tokens[stop][0] == "AND"
        if stop == begin or (first_of_and and not joined):
            continue
        low = tokens[begin].start()
        condition = text[low : tokens[stop - 1].end()]
        if condition not in ("true", "{db}") and '"' not in condition and not condition.startswith("SELECT"):
            yield low, low + len(condition), "true"


def _written(text: str) -> list[tuple[int, int, bool]]:
    """Where the functions of a Python file hold code, and where text that becomes SQL: (from, to, is SQL)."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line.encode()))
    raw = text.encode()
    at = lambda row, column: len(raw[: lines[row - 1] + column].decode())  # noqa: E731
    spans = []
    for function in (f for f in ast.walk(ast.parse(text)) if isinstance(f, ast.FunctionDef)):
        body = function.body[1:] if ast.get_docstring(function) else function.body
        strings = []
        for node in (n for statement in body for n in ast.walk(statement)):
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                low, high = at(node.lineno, node.col_offset), at(node.end_lineno or 0, node.end_col_offset or 0)
                quote = re.match(r"[A-Za-z]*([\"']+)", text[low:high])
                if quote and high - low > 2 * len(quote[1]):
                    strings.append((low + quote.end(), high - len(quote[1])))
        outer = [s for s in set(strings) if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in strings)]
        position = at(body[0].lineno, body[0].col_offset)
        for low, high in sorted(outer):
            spans += [(position, low, False), (low, high, True)]
            position = high
        spans.append((position, at(body[-1].end_lineno or 0, body[-1].end_col_offset or 0), False))
    return [span for span in spans if span[0] < span[1]]
