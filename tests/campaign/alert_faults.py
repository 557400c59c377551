"""Takes each thing away that a process needs, and measures how soon the right alert is told.

``python -m tests.campaign.alert_faults`` prints a line for each: what was taken away, which alert
was told on a channel and after how long, and after how long its end was. The ledger in which
notices are kept is among what is taken away.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from botswarm.alerts import channels, looking, policy, rules
from botswarm.alerts.rules import EXPLAINED_BY
from botswarm.alerts.spool import Spool
from botswarm.alerts.watch import Watch
from botswarm.clock import SystemClock
from botswarm.config import load
from botswarm.errors import BotswarmError
from botswarm.ledger import migrate
from botswarm.ledger.alerts import Alerts
from botswarm.ledger.session import Database
from botswarm.testing.servers import wait_until
from tests.alerts.receivers import Receiver, http_receiver
from tests.campaign.health_faults import Fault, Stage, filling, is_well, small_disk

PATIENCE_S = 180.0
EVERY_S = 2.0
CLEARS_S = 6.0
"""Shorter than in production, where somebody else may still see what one round does not."""


@dataclass(frozen=True, slots=True)
class Told:
    what: str
    alert: str
    fired_s: float
    ended_s: float
    others: tuple[str, ...]
    """What else was told meanwhile."""


def expected(fault: Fault) -> str:
    rule = rules.of_check(fault.check, "fail") if fault.check else rules.SILENT
    assert rule is not None
    return rule.name


class Rounds:
    """A watch that makes its rounds in a thread, and a channel that takes what it says."""

    def __init__(self, stage: Stage, receiver: Receiver) -> None:
        self.stage, self.receiver = stage, receiver
        self._database = Database(stage.settings.database_url)
        migrate.migrate(self._database)
        settings = load(
            environ={
                "BOTSWARM_STATE_DIR": str(stage.state_dir),
                "BOTSWARM_NOTIFY_WEBHOOK_URL": f"{receiver.url}/in",
            }
        ).settings
        clears = timedelta(seconds=CLEARS_S)
        self._watch = Watch(
            alerts=Alerts(self._database),
            spool=Spool(stage.state_dir),
            look=lambda: looking.look(stage.state_dir),
            read=looking.read,
            policy=replace(policy.of(settings, EXPLAINED_BY), clears_after=clears),
            channels=channels.of(settings),
            source="faults",
            clock=SystemClock(),
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make, name="rounds", daemon=True)

    def __enter__(self) -> Rounds:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        self._database.close()

    def _make(self) -> None:
        while not self._over.wait(EVERY_S):
            self._watch.round()

    @property
    def told(self) -> list[tuple[str, str]]:
        return [
            (each["kind"], each["name"])
            for body in list(self.receiver.bodies)
            for each in body["notices"]
        ]

    def tried(self, fault: Fault) -> Told:
        name = expected(fault)
        wait_until(
            lambda: is_well(self.stage.state_dir, fault.process),
            f"{fault.process} to be well",
            PATIENCE_S,
        )
        wait_until(lambda: not self._open(), "earlier alerts to end", PATIENCE_S)
        before = len(self.told)
        began = time.monotonic()
        fault.take()
        try:
            wait_until(lambda: ("fired", name) in self.told[before:], f"{name} fired", PATIENCE_S)
            fired_s = time.monotonic() - began
        finally:
            back = time.monotonic()
            fault.give_back()
        wait_until(lambda: ("ended", name) in self.told[before:], f"{name} ended", PATIENCE_S)
        others = {other for _, other in self.told[before:]} - {name}
        return Told(fault.what, name, fired_s, time.monotonic() - back, tuple(sorted(others)))

    def _open(self) -> set[str]:
        fired: dict[str, int] = {}
        for kind, name in self.told:
            fired[name] = fired.get(name, 0) + (1 if kind == "fired" else -1)
        return {name for name, many in fired.items() if many > 0}


@contextmanager
def rounds(stage: Stage) -> Iterator[Rounds]:
    with http_receiver() as receiver, Rounds(stage, receiver) as made:
        yield made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name holds this")
    chosen = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="botswarm-alerts-") as name:
        folder = Path(name) / "state"
        with small_disk(folder) as has_disk, Stage(folder) as stage, rounds(stage) as made:
            faults = [*stage.faults(), *([filling(folder)] if has_disk else [])]
            for fault in [each for each in faults if chosen in each.what]:
                told = made.tried(fault)
                also = f"; also {', '.join(told.others)}" if told.others else ""
                print(
                    f"{told.what:35} {told.alert:26} told after {told.fired_s:5.1f} s, "
                    f"its end after {told.ended_s:5.1f} s{also}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BotswarmError as error:
        sys.exit(f"{error}; {error.cure}")
