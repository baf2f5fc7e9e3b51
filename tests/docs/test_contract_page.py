"""The page of the contract names tests that exist, and leaves none of the contract out."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/collectors/contract.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
SUITES = ["tests/contract/suite.py", "tests/contract/broker.py", "tests/contract/test_stack.py"]


def defined(path: str) -> set[str]:
    """Functions and classes of a file, methods too."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_what_the_page_names_exists(path: str, name: str) -> None:
    """A test that is renamed is renamed there."""
    assert name in defined(path)


@pytest.mark.parametrize("path", SUITES)
def test_every_case_of_the_contract_is_on_the_page(path: str) -> None:
    """A newcomer knows what there is to pass."""
    cases = {name for name in defined(path) if name.startswith("test_")}
    assert cases == {name for where, name in NAMED if where == path}
