"""What the ``risk`` queue runs: sweeps, each bounded and recorded."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from botswarm.clock import SystemClock
from botswarm.ledger.store import Ledger
from botswarm.messages import SweepRisk
from botswarm.queueing import current_settings, task
from botswarm.sweeps.sweep import Rules, Tools
from botswarm.sweeps.table import sweep
from botswarm.trading.limits import limits_of


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
    rules = Rules.of(settings, limits_of(settings).defaults)
    return Tools(ledger=Ledger(settings.database_url), clock=SystemClock(), rules=rules)
