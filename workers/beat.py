"""What the beat process runs: the scheduler that leads, with the ledger as its diary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botswarm.alerts.night import NightWatch
from botswarm.clock import SystemClock
from botswarm.ledger.schedules import Missed, Schedules, Sent, Stand, Withdrawn
from botswarm.ledger.session import Database
from botswarm.queueing.beat import LeaderScheduler
from botswarm.queueing.diary import Pages
from botswarm.queueing.leadership import Slot


class LedgerDiary:
    """Written to in a thread of the beat, so the ledger may take its time."""

    def __init__(self, schedules: Schedules, leader: str) -> None:
        self._schedules = schedules
        self._leader = leader

    def known(self) -> Mapping[str, Sequence[int]]:
        return self._schedules.slots()

    def paused(self) -> Mapping[str, str]:
        pauses = self._schedules.pauses(SystemClock().now())
        return {name: pause.words for name, pause in pauses.items()}

    def write(self, pages: Pages) -> None:
        self._schedules.note(
            leader=self._leader,
            stands=[
                Stand(
                    name=each.entry,
                    slot=each.slot,
                    sent_at=None if each.sent is None else moment(each.sent),
                    next_at=moment(each.next),
                    held=each.held,
                )
                for each in pages.stands
            ],
            sent=[sent_of(task_id, slot) for task_id, slot in pages.sent],
            missed=[
                Missed(
                    entry=each.entry,
                    first_slot=each.gap.first_slot,
                    last_slot=each.gap.last_slot,
                    slots=each.gap.slots,
                    from_at=moment(each.gap.from_wall),
                    to_at=moment(each.gap.to_wall),
                    reason=each.reason,
                )
                for each in pages.passed
            ],
            withdrawn=[Withdrawn(entry=entry, from_slot=slot) for entry, slot in pages.withdrawn],
            now=SystemClock().now(),
        )


class LedgerScheduler(LeaderScheduler):
    _night: NightWatch | None = None

    def tick(self, *words: Any, **more: Any) -> float:
        if self._night is None:
            # A beat that only stands by watches, too: it may be the last that is well.
            self._night = NightWatch(self.app.settings)
            self._night.start()
        return super().tick(*words, **more)

    def notebook(self) -> LedgerDiary:
        settings: Any = self.app.settings
        leader = f"{settings.instance_id}/{os.getpid()}"
        return LedgerDiary(Schedules(Database(settings.database_url)), leader)


def sent_of(task_id: str, slot: Slot) -> Sent:
    return Sent(
        task_id=task_id,
        entry=slot.entry,
        slot=slot.number,
        due_at=moment(slot.due_wall),
        expires_at=moment(slot.expires_wall),
        sent_at=moment(slot.sent_wall),
    )


def moment(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC)
