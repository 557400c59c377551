"""Trading that is opened step by step: each look at it puts together what the ledger knows."""

from __future__ import annotations

import logging
from datetime import datetime

from botswarm.domain.enabling import ALL, Enabling
from botswarm.ledger.enablings import Enablings, Look
from botswarm.ledger.halts import Cause
from botswarm.ledger.session import Database
from botswarm.risk import enabling as rules

logger = logging.getLogger(__name__)


def look(database: Database, now: datetime) -> Enabling | None:
    """Harmless however often it runs; None where nothing is opened step by step."""
    told: list[str] = []

    def decide(at: Look) -> rules.Step:
        told.clear()  # a transaction may be run again
        step = rules.decide(at.enabling, _swarm(at), at.figures, at.now)
        if (step.state, step.share) != (at.enabling.state, at.enabling.share):
            told.append(f"enabling {at.enabling.id}: {step.words}")
        return step

    done = Enablings(database).step(decide, now)
    for words in told:
        logger.warning("%s", words)
    return done


def _swarm(at: Look) -> rules.Swarm:
    held = at.swarm
    return rules.Swarm(
        state=held.state_at(at.now),
        share=ALL if held.share is None else held.share,
        is_held_by_system=held.cause is Cause.SYSTEM,
        reason=held.reason,
        objection=at.objection,
    )
