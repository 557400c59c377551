"""How accounts and the swarm stand, for tests that are about something else."""

from __future__ import annotations

from datetime import datetime

from botswarm.domain.reconciliation import Difference, Reconciliation
from botswarm.ledger.halts import SWARM, Halt
from botswarm.ledger.store import Ledger


def reconciled(
    ledger: Ledger,
    at: datetime,
    *,
    venue: str = "simulated",
    account: str = "paper",
    differences: tuple[Difference, ...] = (),
) -> None:
    """Orders of this account pass from now on, as after a comparison that found nothing."""
    done = Reconciliation(venue=venue, account=account, at=at, differences=differences)
    ledger.reconciliations.conclude(done)


def swarm_of(ledger: Ledger) -> Halt:
    """What was said of the whole swarm last."""
    return next(each for each in ledger.halts.all() if each.scope == SWARM)
