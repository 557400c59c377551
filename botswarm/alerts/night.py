"""Who makes the rounds: a task of the queue ops, and where that fails, the beat."""

from __future__ import annotations

import logging
import threading
import time

from botswarm.alerts import channels, looking, policy
from botswarm.alerts.figures import Figures
from botswarm.alerts.rules import DOWN, EXPLAINED_BY
from botswarm.alerts.spool import Spool
from botswarm.alerts.watch import Round, Watch
from botswarm.clock import SystemClock
from botswarm.config import Settings
from botswarm.ledger.alerts import Alerts
from botswarm.ledger.session import Database

logger = logging.getLogger(__name__)

EVERY_S = 5.0
MISSED_AFTER_S = 12.0
"""No round for so long on this machine: whoever should make them cannot."""


def watch_of(settings: Settings, database: Database) -> Watch:
    figures = Figures(settings.state_dir, settings.env, SystemClock())
    return Watch(
        alerts=Alerts(database),
        spool=Spool(settings.state_dir),
        look=lambda: [*looking.look(settings.state_dir), *figures.look()],
        read=looking.read,
        policy=policy.of(settings, EXPLAINED_BY),
        channels=channels.of(settings),
        source=f"{settings.env} {settings.instance_id}",
        clock=SystemClock(),
    )


def sees_well(done: Round) -> bool:
    """Whether the swarm is up: all was looked at, and nothing fires that is an outage."""
    return done.is_judged and done.with_ledger and not done.firing & DOWN


class NightWatch:
    """Makes the rounds in a thread, while nobody else on this machine does.

    It needs neither broker nor workers nor ledger, so it tells people when these are gone.
    """

    def __init__(self, settings: Settings, *, missed_after_s: float = MISSED_AFTER_S) -> None:
        self._settings = settings
        self._missed_after_s = missed_after_s
        self._spool = Spool(settings.state_dir)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="night watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(EVERY_S)

    def _run(self) -> None:
        began = time.time()
        watch: Watch | None = None
        while not self._stop.wait(EVERY_S):
            age_s = self._spool.age_s(time.time())
            if age_s is None:
                age_s = time.time() - began
            if age_s < self._missed_after_s:
                continue
            try:
                watch = watch or watch_of(self._settings, Database(self._settings.database_url))
                watch.round()
            except Exception:  # a defect in one round must not end the others
                logger.exception("alerts were not looked for")
