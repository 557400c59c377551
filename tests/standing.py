"""Accounts that were held against their venue, for tests that are about something else."""

from __future__ import annotations

from datetime import datetime

from botswarm.domain.reconciliation import Difference, Reconciliation
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
