"""How many lines of code a file has: those that are neither docstring, comment nor blank.

python -m tests.docs.lines FILE ...
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(source: str) -> int:
    """Of Python source."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def main() -> None:
    """One line each, and their sum."""
    found = {name: lines_of_code(Path(name).read_text("utf-8")) for name in sys.argv[1:]}
    for name, lines in {**found, "total": sum(found.values())}.items():
        print(f"{lines:5} {name}")


if __name__ == "__main__":
    main()
