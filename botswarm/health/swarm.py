"""The checks of the whole swarm, and who exports its figures: the workers of the queue ops."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from botswarm import metrics
from botswarm.clock import Clock, SystemClock
from botswarm.config import Settings
from botswarm.domain.processes import differences, in_words
from botswarm.domain.uptime import PROMISED, WINDOWS
from botswarm.errors import BotswarmError
from botswarm.exchanges import registry
from botswarm.health import facts
from botswarm.health.broker import Broker
from botswarm.health.check import Status
from botswarm.health.exporter import Exporter, Slots
from botswarm.health.facts import Facts
from botswarm.health.process import Health
from botswarm.health.queues import Queues
from botswarm.health.watch import Finding
from botswarm.schedule import BY_NAME

logger = logging.getLogger(__name__)

EVERY_S = 4.0
FIRST_LOOK_S = 2.5
FIRST_S = 30.0
"""So long after its start a swarm may still be coming together."""
COMPARED_WARN_S, COMPARED_FAIL_S = 300.0, 600.0
BACKUP_WARN_S, BACKUP_FAIL_S = 26 * 3600.0, 50 * 3600.0
"""One is made every night, and one night may go wrong."""
FIRST_COPY_S = 600.0
ARCHIVE_FAIL_S, ROUNDS_LATE = 300.0, 3
"""Behind by so long and so many rounds: each day another copy is made first, of all there is."""
DAY_S = 86_400.0
LATE_S = 120.0
DIFFER_FAIL_S = 120.0
"""A deployment that restarts one process after the other is over by then."""
CHECK_KEYS = "check-keys"
EXPORT_SLOT = "exporter"
# What feed and beat lead by. Written out because their rooms are not for this one to import.
BEAT_LEADER = "botswarm.beat.leader"
FEED_LEAD = "botswarm.feed.{venue}.lead"


class Swarm:
    """Read by one thread every few seconds; checks and scrapes are answered from what it knows."""

    def __init__(
        self,
        settings: Settings,
        slots: Slots,
        swarm_caps: Mapping[str, int],
        clock: Clock | None = None,
    ) -> None:
        self._settings, self._slots = settings, slots
        self._clock = clock or SystemClock()
        self._began = self._clock.monotonic()
        self._broker = Broker(lambda: settings.broker_url, "botswarm swarm health")
        self._queues = Queues(settings, self._broker)
        self._exporter = Exporter(settings, self._queues, slots, swarm_caps, self._clock)
        self._facts: Facts | None = None
        self._trouble: BotswarmError | None = None
        self._lead: Finding = Finding(words="not looked at yet", status="warn")
        self._lead_trouble: BotswarmError | None = None
        self._slot: object | None = None
        self._looked_at = self._clock.monotonic()
        self._has_looked = threading.Event()

    def join(self, health: Health) -> None:
        health.check("leader", self._told(self.leader))
        health.check("queues", self._told(self.queues))
        for name, look in (
            ("doorbells", self.doorbells),
            ("reconciliation", self.reconciliation),
            ("orders", self.orders),
            ("trading", self.trading),
            ("builds", self.builds),
            ("enabling", self.enabling),
            ("backup_age", self.backup_age),
            ("archive", self.archive),
            ("schedules", self.schedules),
            ("keys", self.keys),
        ):
            health.check(name, self._told(look))
        health.facts_of(self.facts)
        health.source(self)
        health.thread("swarm health", self._keep_looking)

    def _told(self, look: Callable[[], Finding]) -> Callable[[], Finding]:
        def told() -> Finding:
            if not self._has_looked.wait(FIRST_LOOK_S):
                return Finding(words="not looked at yet", status="warn")
            behind_s = self._clock.monotonic() - self._looked_at
            if behind_s > 4 * EVERY_S:
                words = f"ledger and broker have not answered for {behind_s:.0f} s"
                return Finding(words=words, status="fail", cure="botswarm doctor")
            return look()

        return told

    # --- looking --------------------------------------------------------------------------

    def _keep_looking(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                # The entrance of a thread: whatever it was, the next look may do better.
                logger.exception("the swarm's health cannot be looked at: a defect")
            time.sleep(EVERY_S)

    def look(self) -> None:
        self._look_at_broker()
        self._look_at_ledger()
        self._looked_at = self._clock.monotonic()
        self._has_looked.set()
        if self._is_exporter():
            self._exporter.look()

    def _look_at_broker(self) -> None:
        try:
            self._queues.look()
            self._lead = self._leaders()
            self._lead_trouble = None
            metrics.SWARM_LOOKS.labels("broker", "done").inc()
        except BotswarmError as error:
            self._lead_trouble = error
            metrics.SWARM_LOOKS.labels("broker", "failed").inc()

    def _look_at_ledger(self) -> None:
        try:
            self._facts = facts.read(self._settings.database_url, self._clock.now())
            self._trouble = None
            metrics.SWARM_LOOKS.labels("ledger", "done").inc()
        except BotswarmError as error:
            self._trouble = error
            metrics.SWARM_LOOKS.labels("ledger", "failed").inc()

    def _is_exporter(self) -> bool:
        """Whether this one of the workers of ops tells what is of the swarm: one does."""
        if self._slot is None:
            try:
                self._slot = self._slots.take(EXPORT_SLOT, 1)
            except BotswarmError as error:
                logger.debug("nobody can be chosen to export: %s", error)
            if self._slot is not None:
                logger.info("this worker exports the metrics of the swarm")
        return self._slot is not None

    def collect(self) -> Iterable[metrics.Samples]:
        exports = self._slot is not None
        yield metrics.Samples(metrics.EXPORTS_SWARM, [((), float(exports))])
        if exports:
            yield from self._exporter.collect(self._facts if self._trouble is None else None)

    def facts(self) -> Mapping[str, Any]:
        """How much of the time the swarm was up, for the page of health."""
        found = self._facts
        if found is None or found.uptime is None:
            return {}
        up = found.uptime
        return {
            "swarm_uptime": {
                "known_since": up.first_at.isoformat(timespec="seconds"),
                "promised_percent": 100 * PROMISED,
                "percent": {name: round(100 * up.shares[name], 3) for name in WINDOWS},
                "down_s": {name: round(up.down_s[name]) for name in WINDOWS},
            }
        }

    # --- checks ---------------------------------------------------------------------------

    @property
    def _is_young(self) -> bool:
        return self._clock.monotonic() - self._began < FIRST_S

    def _leaders(self) -> Finding:
        missing = [] if self._broker.is_held(BEAT_LEADER) else ["no beat leads"]
        for venue in registry.fed_venues(self._settings):
            counts = self._broker.counts(FEED_LEAD.format(venue=venue))
            if counts is None or not counts[1]:
                missing.append(f"no feed of {venue} leads")
        words = ", ".join(missing) or "a beat leads, and a feed of each venue"
        status: Status | None = "warn" if missing and self._is_young else None
        return Finding(words=words, value=len(missing), status=status)

    def leader(self) -> Finding:
        if self._lead_trouble is not None:
            raise self._lead_trouble
        return self._lead

    def queues(self) -> Finding:
        found = self._queues.finding()
        is_early = found.status == "fail" and self._is_young
        return replace(found, status="warn") if is_early else found

    def _known(self) -> Facts:
        if self._trouble is not None:
            raise self._trouble
        assert self._facts is not None
        return self._facts

    def doorbells(self) -> Finding:
        found = self._known()
        age_s = _age_s(found.at, found.doorbell_since)
        words = f"{found.doorbells} wait, the oldest for {age_s:.0f} s"
        return Finding(words=words if found.doorbells else "none waits", value=round(age_s, 1))

    def orders(self) -> Finding:
        found = self._known()
        age_s = _age_s(found.at, found.doubtful_since)
        words = f"{found.doubtful} in doubt, the oldest for {age_s:.0f} s"
        return Finding(words=words if found.doubtful else "none is in doubt", value=round(age_s, 1))

    def reconciliation(self) -> Finding:
        found = self._known()
        if not found.accounts:
            return Finding(words="no account was compared with its venue yet")
        said, worst, oldest_s = [], "ok", 0.0
        for account in found.accounts:
            name = f"{account.venue}:{account.name}"
            age_s = _age_s(found.at, account.compared_at)
            oldest_s = max(oldest_s, age_s)
            if account.compared_at is None:
                said.append(f"{name} was never compared")
            elif not account.agrees:
                said.append(f"{name} does not agree")
                worst = "fail"
            elif age_s > COMPARED_WARN_S:
                said.append(f"{name} was compared {age_s:.0f} s ago")
            late = account.compared_at is None or age_s > COMPARED_FAIL_S
            if late and not self._is_young:
                worst = "fail"
            elif worst == "ok" and (late or age_s > COMPARED_WARN_S):
                worst = "warn"
        words = "; ".join(said) or f"{len(found.accounts)} accounts agree with their venues"
        status: Status = "fail" if worst == "fail" else "warn" if worst == "warn" else "ok"
        return Finding(words=words, value=round(oldest_s, 1), status=status)

    def trading(self) -> Finding:
        """A halt is somebody's will, or a limit's: it is said, and no ill health."""
        found = self._known()
        state, reason = found.swarm
        words = state if state == "active" else f"{state}: {reason}"
        if found.share is not None:
            words += f", for {found.share} % of the bots"
        for (kind, held), many in sorted(found.held.items()):
            words += f"; {many} {kind} {held}"
        is_free = state == "active" and not found.held
        return Finding(words=words, status="ok" if is_free else "warn")

    def builds(self) -> Finding:
        """A deployment makes them differ for a moment; trading is held back all the same."""
        found = self._known()
        differing = differences(found.processes, found.at)
        if not differing:
            words = f"{len(found.processes)} processes are made of the same"
            return Finding(words=words, value=0, status="ok")
        lasts_s = _age_s(found.at, min(each.since for each in differing))
        status: Status = "fail" if lasts_s > DIFFER_FAIL_S else "warn"
        return Finding(words=in_words(differing), value=len(differing), status=status)

    def enabling(self) -> Finding:
        found = self._known()
        if found.looked_at is None:
            return Finding(words="nothing opens step by step", status="ok")
        age_s = _age_s(found.at, found.looked_at)
        return Finding(words=f"looked at {age_s:.0f} s ago", value=round(age_s, 1))

    def backup_age(self) -> Finding:
        found = self._known()
        if found.backup is None:
            words = "there is none that was brought back to the side"
            # What has only just begun has nothing to lose yet.
            is_new = self._settings.env == "development"
            return Finding(words=words, status="ok" if is_new else "fail")
        age_s = _age_s(found.at, found.backup.at)
        words = f"the newest good one is {_duration(age_s)} old"
        status: Status = "ok"
        if age_s > BACKUP_WARN_S:
            status = "fail" if age_s > BACKUP_FAIL_S else "warn"
        return Finding(words=words, value=round(age_s), status=status)

    def archive(self) -> Finding:
        """It may run on another machine, whose settings are not known here: its mark says so."""
        found, settings = self._known(), self._settings
        age_s = _age_s(found.at, found.archived_at)
        if not settings.backup_archive and (found.archived_at is None or age_s > DAY_S):
            return Finding(words="the ledger is not archived", status="ok")
        if found.archived_at is None:
            has_had_time = self._clock.monotonic() - self._began > FIRST_COPY_S
            words = "nothing is archived yet"
            return Finding(words=words, status="fail" if has_had_time else "warn")
        most_s = ARCHIVE_FAIL_S + ROUNDS_LATE * settings.backup_archive_every_s
        words = f"the archive is {_duration(age_s)} behind the ledger"
        status: Status = "fail" if age_s > most_s else "ok"
        return Finding(words=words, value=round(age_s), status=status)

    def schedules(self) -> Finding:
        found = self._known()
        # An older version may have sent others, which nobody sends any more.
        entries = [entry for entry in found.entries if entry.name in BY_NAME]
        missed = {name: many for name, many in found.missed.items() if many and name in BY_NAME}
        failed = [entry.name for entry in entries if entry.outcome == "failed"]
        late = [
            entry.name
            for entry in entries
            if entry.next_at is not None and _age_s(found.at, entry.next_at) > LATE_S
        ]
        owed = [entry.name for entry in entries if _is_owed(entry, found)]
        said = [
            f"{name} missed {many}{', and has not run since' if name in owed else ''}"
            for name, many in sorted(missed.items())
        ]
        said += [f"{name} failed" for name in failed]
        said += [f"{name} is late" for name in late if name not in missed]
        return Finding(
            words="; ".join(said) or f"{len(entries)} entries run on time",
            value=sum(missed.values()),
            status="warn" if failed or late or owed else "ok",
        )

    def keys(self) -> Finding:
        """As the entry that looks at them each night has found them, or a person who ran it."""
        entries = {entry.name: entry for entry in self._known().entries}
        last = entries.get(CHECK_KEYS)
        if last is None or last.outcome != "done":
            return Finding(words="not looked at yet", status="ok")
        if last.result:
            return Finding(words=last.result, status="warn")
        return Finding(words="none is too old", status="ok")


def _is_owed(entry: facts.Entry, found: Facts) -> bool:
    """A night's backup or drill was missed; what comes every few seconds has come since."""
    at, planned = found.missed_at.get(entry.name), BY_NAME[entry.name]
    if at is None or planned.at_s is None:
        return False
    return entry.ended_at is None or entry.ended_at < at


def _age_s(now: datetime, at: datetime | None) -> float:
    return 0.0 if at is None else max(0.0, (now - at).total_seconds())


def _duration(seconds: float) -> str:
    for size, word in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} seconds"
