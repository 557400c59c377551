"""What beat sends and when; nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from botswarm.messages import (
    GuardOrders,
    Message,
    Probe,
    PruneEvaluations,
    ReconcileAccount,
    SettleOrders,
    SweepOutbox,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A message sent once in every period, at whole multiples of it since 1970 (UTC)."""

    name: str
    message: Message
    every_s: float

    @property
    def expires_s(self) -> float:
        """Always within the period, so that what nobody ran in time does not pile up."""
        return self.every_s * 0.9


SCHEDULE: tuple[Entry, ...] = (
    Entry("settle-orders", SettleOrders(), every_s=1),
    Entry("reconcile-accounts", ReconcileAccount(), every_s=60),
    Entry("guard-orders", GuardOrders(), every_s=5),
    Entry("sweep-outbox", SweepOutbox(), every_s=5),
    Entry("prune-evaluations", PruneEvaluations(), every_s=300),
    # Proof in the metrics and logs that beat, broker and workers still reach one another.
    Entry("probe", Probe(text="from beat"), every_s=3600),
)
