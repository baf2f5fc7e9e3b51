"""Statements checked from their files alone: signature, sums, exceptions, and how they follow each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from tracker.cli.errors import CommandError
from tracker.cli.files import read
from tracker.model import statement
from tracker.model.errors import Invalid, TrackerError


class Checked(msgspec.Struct, kw_only=True):
    """One statement and what is off with it; `trusted` is None where nobody said whom to trust."""

    file: str
    flow: str = ""
    number: int = 0
    hash: str = ""
    key: str = ""
    trusted: bool | None = None
    settled: bool | None = None
    said: dict[str, Any] = {}
    problems: list[str] = []


def verify(files: Sequence[Path], keys: Sequence[Path], exceptions: Path | None) -> tuple[list[Checked], list[str]]:
    """Each statement, and what is off with the chains that they make.

    `keys` are PEM files of public keys: one of them must have signed. `exceptions` is NDJSON of all exceptions of
    the one statement. Raises CommandError when a file cannot be read.
    """
    if not files:
        raise CommandError("name the files to check: tracker reconcile --verify STATEMENT.json")
    if exceptions is not None and len(files) != 1:
        raise CommandError("--exceptions belongs to one statement: check them one by one")
    known = trusted(keys)
    checked, chains = [], dict[str, list[tuple[statement.Document, statement.Statement]]]()
    for file in files:
        text = read(file)
        try:
            document, said = statement.read(text)
        except Invalid as error:
            checked.append(Checked(file=str(file), problems=[str(error)]))
            continue
        chains.setdefault(said.flow, []).append((document, said))
        checked.append(_checked(file, document, said, known, exceptions))
    broken = [f"{flow}: {fault}" for flow, chained in sorted(chains.items()) for fault in statement.breaks(chained)]
    return checked, broken


def _checked(
    file: Path,
    document: statement.Document,
    said: statement.Statement,
    known: Mapping[str, Path],
    exceptions: Path | None,
) -> Checked:
    problems = [*statement.faults(document, said), *_seal(document, said)]
    if known and said.key not in known:
        problems.append(f"it is signed with the key {said.key}, which is none of those given with --key")
    if exceptions is not None:
        problems += _listed(said, exceptions)
    return Checked(
        file=str(file), flow=said.flow, number=said.number, hash=document.hash, key=said.key,
        trusted=said.key in known if known else None, settled=said.settled, said=document.statement, problems=problems,
    )  # fmt: skip


def _seal(document: statement.Document, said: statement.Statement) -> list[str]:
    """What is off with the signature."""
    from tracker.model import seal

    try:
        if seal.key_id(document.public_key) != said.key:
            return [f"the public key beside it is not the one that it names ({said.key})"]
        if not seal.signed(document.public_key, document.statement, document.signature):
            return ["its signature is not of what it says: it was changed, or another signed it"]
    except Invalid as error:
        return [str(error)]
    return []


def sealing() -> ModuleType:
    """The module that checks signatures. Raises CommandError without its library."""
    try:
        from tracker.model import seal
    except ModuleNotFoundError as error:
        raise CommandError(
            f"checking a signature needs {error.name}, which is not installed: pip install {error.name}, or "
            "'message-tracker[server]'"
        ) from None
    return seal


def trusted(files: Sequence[Path]) -> dict[str, Path]:
    """The public keys in these files, by id. Raises CommandError for a file that holds none, or without the library."""
    seal, found = sealing(), {}
    for file in files:
        try:
            found[seal.key_id(read(file))] = file
        except TrackerError as error:
            raise CommandError(f"--key {file}: {error}") from None
    return found


def _listed(said: statement.Statement, file: Path) -> list[str]:
    """What is off when this file is held to be all of its exceptions."""
    try:
        rows = [json.loads(line) for line in read(file).splitlines() if line.strip()]
        return [f"{fault} ({file})" for fault in statement.complete(said, rows)]
    except (ValueError, KeyError, TypeError):
        return [f"{file} is no NDJSON of exceptions; it is made with: tracker reconcile --statement --exceptions FILE"]
