"""What the ``risk`` queue runs: sweeps, each bounded and recorded."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from functools import lru_cache
from typing import Any

from botswarm.clock import SystemClock
from botswarm.errors import BotswarmError
from botswarm.exchanges import accounts
from botswarm.exchanges.accounts import Account
from botswarm.ledger.outbox import BATCH
from botswarm.ledger.store import Ledger
from botswarm.messages import SweepRisk
from botswarm.queueing import current_settings, ring, task
from botswarm.sweeps.sweep import Rules, Tools
from botswarm.sweeps.table import sweep
from botswarm.trading.limits import limits_of

logger = logging.getLogger(__name__)


@task(SweepRisk)
def sweep_risk(name: str = "positions") -> dict[str, Any]:
    """Harmless at any time, and in any number at once: what is found is told and held once.

    A ledger that cannot be read is said and no dead letter: the next sweep is seconds away.
    """
    done = sweep(name, _tools(os.getpid()))
    return {"looked": done.looked, "found": done.found, "took_ms": done.took_ms}


@lru_cache(maxsize=1)
def _tools(_: int) -> Tools:
    """Of one process: connections do not survive a fork."""
    settings = current_settings()
    ledger = Ledger(settings.database_url)

    def ring_all(now: datetime) -> None:
        try:
            while ledger.outbox.relay(ring, now) == BATCH:
                pass
        except (BotswarmError, OSError) as error:
            # It is committed: the sweep of the outbox rings within seconds.
            logger.warning("the order workers were not rung: %s", error)

    return Tools(
        ledger=ledger,
        clock=SystemClock(),
        rules=Rules.of(settings, limits_of(settings).defaults),
        ring=ring_all,
        kinds=lambda venue, account: accounts.kinds(Account(venue, account)),
    )
