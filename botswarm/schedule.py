"""What beat sends and when; nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from botswarm.messages import (
    BackUp,
    CheckKeys,
    GuardOrders,
    KeepCandles,
    Message,
    Probe,
    PruneAlerts,
    PruneEvaluations,
    PruneHistory,
    ReconcileAccount,
    RehearseRestore,
    ReleaseRestored,
    ReportDay,
    SettleOrders,
    StepEnabling,
    SweepOutbox,
    SweepRisk,
    TellTraces,
    WatchAlerts,
)

DAY_S = 86_400.0
HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that is sent again and again.

    Without ``at_s`` it comes every so many seconds, whatever the clock on the wall says meanwhile.
    With it, at moments of that clock: ``at_s`` seconds into every period since 1970 (UTC), so
    that ``every_s=DAY_S, at_s=2 * HOUR_S`` is each night at two.
    """

    name: str
    message: Message
    every_s: float
    at_s: float | None = None
    late_s: float | None = None
    """Of moments only: so late it is still worth sending, a machine may have been off."""
    is_vital: bool = False
    """Orders or money depend on it: nobody pauses it by the way."""

    @property
    def worth_s(self) -> float:
        """How long after its moment a slot may still be sent: never into the next one's."""
        if self.at_s is None:
            return self.every_s
        return self.every_s / 2 if self.late_s is None else min(self.late_s, self.every_s)

    @property
    def expires_s(self) -> float:
        """Always within the period, so that what nobody ran in time does not pile up."""
        return self.worth_s * 0.9

    @property
    def is_kept(self) -> bool:
        """Whether each of its runs gets a line in the ledger; of others only the last one does."""
        return self.every_s >= KEPT_FROM_S


KEPT_FROM_S = 60.0

SCHEDULE: tuple[Entry, ...] = (
    Entry("settle-orders", SettleOrders(), every_s=1, is_vital=True),
    Entry("reconcile-accounts", ReconcileAccount(), every_s=60, is_vital=True),
    Entry("guard-orders", GuardOrders(), every_s=5, is_vital=True),
    Entry("sweep-outbox", SweepOutbox(), every_s=5, is_vital=True),
    Entry("step-enabling", StepEnabling(), every_s=2, is_vital=True),
    Entry("sweep-positions", SweepRisk(name="positions"), every_s=5, is_vital=True),
    Entry("sweep-protections", SweepRisk(name="protections"), every_s=5, is_vital=True),
    Entry("sweep-guards", SweepRisk(name="guards"), every_s=5, is_vital=True),
    Entry("sweep-feeds", SweepRisk(name="feeds"), every_s=10),
    Entry("sweep-orders", SweepRisk(name="orders"), every_s=10),
    Entry("sweep-accounts", SweepRisk(name="accounts"), every_s=30),
    Entry("sweep-processes", SweepRisk(name="processes"), every_s=10, is_vital=True),
    Entry("sweep-patterns", SweepRisk(name="patterns"), every_s=30),
    Entry("watch-alerts", WatchAlerts(), every_s=5),
    Entry("prune-alerts", PruneAlerts(), every_s=DAY_S, at_s=3 * HOUR_S),
    Entry("prune-evaluations", PruneEvaluations(), every_s=300),
    Entry("prune-history", PruneHistory(), every_s=DAY_S, at_s=3.25 * HOUR_S),
    Entry("keep-candles", KeepCandles(), every_s=HOUR_S, at_s=420),
    Entry("check-keys", CheckKeys(), every_s=DAY_S, at_s=6 * HOUR_S),
    Entry("back-up", BackUp(), every_s=DAY_S, at_s=HOUR_S),
    Entry("rehearse-restore", RehearseRestore(), every_s=DAY_S, at_s=4 * HOUR_S),
    Entry("release-restored", ReleaseRestored(), every_s=10),
    Entry("report-day", ReportDay(), every_s=DAY_S, at_s=600, late_s=0.9 * DAY_S),
    Entry("tell-traces", TellTraces(), every_s=10),
    # Proof in the metrics and logs that beat, broker and workers still reach one another.
    Entry("probe", Probe(text="from beat"), every_s=3600),
)

BY_NAME = {entry.name: entry for entry in SCHEDULE}
