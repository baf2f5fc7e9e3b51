"""The small transactional state: specs, incidents, replays, leases, tokens, audit log.

`Control.open(url)` gives all of it; one module per kind of thing tells what it keeps and promises.
"""

from tracker.control.control import Books, Control

__all__ = ["Books", "Control"]
