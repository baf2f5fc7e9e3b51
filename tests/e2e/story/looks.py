"""Looks at the books, again and again while the story goes on, and finds fault with each that does not add up."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

EVERY = 0.2
"""Seconds between two looks at all flows."""


class Looks:
    """A thread that asks for the reconciliation of `allowed`'s flows.

    `allowed`: per flow, the most messages that may ever have each verdict; one that is not listed may never occur.
    """

    def __init__(self, url: str, token: str, allowed: Mapping[str, Mapping[str, int]]) -> None:
        self.faults: list[str] = []
        self.seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._allowed, self._away, self._stop = allowed, threading.Event(), threading.Event()
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        self._thread = threading.Thread(target=self._run, name="looks")
        self._thread.start()

    @contextmanager
    def away(self) -> Iterator[None]:
        """In here the tracker need not answer."""
        self._away.set()
        try:
            yield
        finally:
            self._away.clear()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(60)
        self._http.close()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            for flow in self._allowed:
                excused = self._away.is_set()
                try:
                    answer = self._http.get(f"/v1/flows/{flow}/reconciliation")
                    answer.raise_for_status()
                except httpx.HTTPError as error:
                    if not (excused or self._away.is_set()):
                        self.faults.append(f"{flow}: no answer: {error!r}")
                    continue
                self._check(flow, answer.json())

    def _check(self, flow: str, books: dict[str, Any]) -> None:
        before = self.seen[flow][-1] if self.seen[flow] else books
        self.seen[flow].append(books | {"at": time.time()})
        faults = [fault(part) for part in (books, *books["windows"])]
        faults += [] if books["conserved"] else ["it says that it is not conserved"]
        faults += [] if books["produced"] >= before["produced"] else [f"produced fell from {before['produced']}"]
        most = self._allowed[flow]
        faults += [f"{n} {verdict}" for verdict, n in books["verdicts"].items() if n > most.get(verdict, 0)]
        self.faults += [f"{flow}, as of {books['as_of']}: {each}; {_short(books)}" for each in faults if each]


def fault(counts: Mapping[str, Any]) -> str:
    """What is wrong with one set of counts; empty when it adds up."""
    judged = sum(counts["verdicts"].values())
    there = counts["produced"] + counts["orphans"]
    return "" if there == judged else f"produced and orphans are {there}, verdicts {judged}"


def _short(books: Mapping[str, Any]) -> dict[str, Any]:
    return {name: books[name] for name in ("produced", "orphans", "verdicts")}
