"""A ledger and a control database belong together: a pass's number in the one stands for bounds in the other."""

from __future__ import annotations

import structlog

from tracker.control import Control
from tracker.model.errors import Invalid
from tracker.store import Store

log = structlog.get_logger()


def together(store: Store, control: Control, where: str, adopt: bool = False) -> None:
    """Give both the same word when the ledger has none yet; raise Invalid where they have different ones.

    `where` names the control database. `adopt`: go on with this one, whatever the ledger's was.
    """
    ours, theirs = control.settings.installation(), store.installation()
    if theirs is None:
        store.claim(ours)
    elif adopt and ours != theirs:
        control.settings.adopt(theirs)
    elif ours != theirs:
        raise Invalid(
            f"the ledger {store.engine.where} is of installation {theirs}, the control database {where} of {ours}. "
            "Set TRACKER_STORE and TRACKER_CONTROL to two that belong together, or restore the backup of the control "
            "database. Only when it is lost for good: `tracker migrate --adopt` goes on with this one, without the "
            "flows, tokens, incidents and replays of the lost one"
        )
    newest, last = store.newest_pass(), control.passes.last()
    if newest > (last.number if last else 0):
        log.warning("control database is older than the ledger: everything is folded again from where it stands",
                    control=where, ledger=store.engine.where, ledger_pass=newest)  # fmt: skip
        control.passes.skip_to(newest)
