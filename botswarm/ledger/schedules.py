"""What beat sent and missed, how its tasks ended, and which entries somebody has paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from botswarm.ledger.models import AuditRow
from botswarm.ledger.schedule_models import (
    ScheduleMissRow,
    SchedulePauseRow,
    ScheduleRow,
    ScheduleRunRow,
)
from botswarm.ledger.session import Database, insert_new, save_latest

RESULT_CHARACTERS_MAX = 500
SLOTS_KNOWN_MAX = 5_000
KEPT_FOR = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """How an entry stands with the beat that leads."""

    name: str
    slot: int | None
    sent_at: datetime | None
    next_at: datetime | None
    held: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A slot that was sent and is worth a line of its own."""

    task_id: str
    entry: str
    slot: int | None
    due_at: datetime
    expires_at: datetime | None
    sent_at: datetime | None
    actor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Slots one after the other that nobody sent, and why."""

    entry: str
    first_slot: int
    last_slot: int
    slots: int
    from_at: datetime
    to_at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The clock went back: what was missed from here on is still to come."""

    entry: str
    from_slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Runs of an entry that ended in one process; all but their number is of the last."""

    entry: str
    started_at: datetime
    ended_at: datetime
    outcome: str
    result: str
    runs: int = 1
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    name: str
    at: datetime
    until: datetime | None
    actor: str
    reason: str

    @property
    def words(self) -> str:
        return f"paused by {self.actor}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An entry with all the ledger knows of it."""

    name: str
    slot: int | None = None
    sent_at: datetime | None = None
    next_at: datetime | None = None
    held: str | None = None
    leader: str | None = None
    noted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    result: str | None = None
    runs: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    task_id: str
    entry: str
    slot: int | None
    due_at: datetime
    expires_at: datetime | None
    sent_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    result: str | None
    actor: str | None

    def state(self, now: datetime) -> str:
        """``done``, ``failed``, ``running``, ``waiting``, or that nobody ran it in time."""
        if self.outcome is not None:
            return self.outcome
        if self.started_at is not None:
            return "running"
        is_late = self.expires_at is not None and now > self.expires_at
        return "nobody ran it in time" if is_late else "waiting"


class Schedules:
    def __init__(self, database: Database) -> None:
        self._database = database

    # --- what beat writes -----------------------------------------------------------------

    def note(
        self,
        *,
        leader: str,
        stands: Sequence[Stand],
        sent: Sequence[Sent],
        missed: Sequence[Missed],
        withdrawn: Sequence[Withdrawn],
        now: datetime,
    ) -> None:
        """All of it in one transaction; saying the same again changes nothing."""

        def work(session: Session) -> None:
            for going in withdrawn:
                _withdraw(session, going)
            rows = [asdict(each) | {"leader": leader, "noted_at": now} for each in stands]
            if have := [row for row in rows if row["slot"] is not None]:
                save_latest(session, ScheduleRow, have)
            # A new leader has sent nothing yet: what the last one sent stays.
            if news := [_without_slot(row) for row in rows if row["slot"] is None]:
                save_latest(session, ScheduleRow, news)
            if missed:
                noted = [asdict(each) | {"noted_at": now} for each in missed]
                save_latest(session, ScheduleMissRow, noted)
            if sent:
                save_latest(session, ScheduleRunRow, [_sent(each) for each in sent])

        self._database.write(work)

    def slots(self) -> Mapping[str, Sequence[int]]:
        """Slots of each entry that are known to have been sent, and the last given up."""

        def work(session: Session) -> dict[str, list[int]]:
            found: dict[str, list[int]] = {}
            stands = select(ScheduleRow.name, ScheduleRow.slot)
            runs = select(ScheduleRunRow.entry, ScheduleRunRow.slot)
            last = func.max(ScheduleMissRow.last_slot)
            missed = select(ScheduleMissRow.entry, last).group_by(ScheduleMissRow.entry)
            latest = runs.order_by(ScheduleRunRow.due_at.desc()).limit(SLOTS_KNOWN_MAX)
            for question in (stands, latest, missed):
                for name, slot in session.execute(question):
                    if slot is not None:
                        found.setdefault(name, []).append(int(slot))
            return found

        return self._database.read(work)

    # --- what workers write ---------------------------------------------------------------

    def began(self, sent: Sent, now: datetime) -> None:
        def work(session: Session) -> None:
            insert_new(session, ScheduleRunRow, [_sent(sent)])
            session.execute(
                update(ScheduleRunRow)
                .where(ScheduleRunRow.task_id == sent.task_id)
                .values(started_at=now, ended_at=None, outcome=None, result=None)
            )

        self._database.write(work)

    def ended(self, ended: Ended, task_id: str | None = None) -> None:
        """``task_id`` is that of a run with a line of its own."""
        result = ended.result[:RESULT_CHARACTERS_MAX]

        def work(session: Session) -> None:
            insert_new(session, ScheduleRow, [{"name": ended.entry, "runs": 0, "failures": 0}])
            session.execute(
                update(ScheduleRow)
                .where(ScheduleRow.name == ended.entry)
                .values(
                    started_at=ended.started_at,
                    ended_at=ended.ended_at,
                    outcome=ended.outcome,
                    result=result,
                    runs=ScheduleRow.runs + ended.runs,
                    failures=ScheduleRow.failures + ended.failures,
                )
            )
            if task_id is not None:
                session.execute(
                    update(ScheduleRunRow)
                    .where(ScheduleRunRow.task_id == task_id)
                    .values(ended_at=ended.ended_at, outcome=ended.outcome, result=result)
                )

        self._database.write(work)

    # --- what people do -------------------------------------------------------------------

    def pauses(self, now: datetime) -> Mapping[str, Pause]:
        """Those that hold now."""
        question = select(SchedulePauseRow).where(
            or_(SchedulePauseRow.until.is_(None), SchedulePauseRow.until > now)
        )

        def work(session: Session) -> dict[str, Pause]:
            return {row.name: _pause(row) for row in session.scalars(question)}

        return self._database.read(work)

    def pause(self, pause: Pause) -> None:
        """In the place of the pause there may be; audited."""

        def work(session: Session) -> None:
            save_latest(session, SchedulePauseRow, [asdict(pause)])
            after = {"is_paused": True, "until": pause.until and pause.until.isoformat()}
            session.add(_audit(pause.name, "pause", pause.actor, pause.reason, pause.at, after))

        self._database.write(work)

    def resume(self, name: str, *, actor: str, reason: str, now: datetime) -> bool:
        """Whether it was paused."""

        def work(session: Session) -> bool:
            row = session.get(SchedulePauseRow, name, with_for_update=True)
            if row is None:
                return False
            session.delete(row)
            session.add(_audit(name, "resume", actor, reason, now, {"is_paused": False}))
            return True

        return self._database.write(work)

    def ask(self, sent: Sent, *, reason: str, now: datetime) -> None:
        """Somebody has an entry run by hand: written down before it is sent, and audited."""

        def work(session: Session) -> None:
            insert_new(session, ScheduleRunRow, [_sent(sent)])
            after = {"task_id": sent.task_id}
            session.add(_audit(sent.entry, "run", sent.actor or "?", reason, now, after))

        self._database.write(work)

    # --- what people and probes ask -------------------------------------------------------

    def known(self) -> Mapping[str, Known]:
        def work(session: Session) -> dict[str, Known]:
            return {row.name: _known(row) for row in session.scalars(select(ScheduleRow))}

        return self._database.read(work)

    def missed(
        self, *, since: datetime | None = None, entry: str | None = None, limit: int | None = None
    ) -> Sequence[Missed]:
        """The latest first."""
        question = select(ScheduleMissRow).order_by(
            ScheduleMissRow.to_at.desc(), ScheduleMissRow.first_slot.desc()
        )
        if since is not None:
            question = question.where(ScheduleMissRow.to_at >= since)
        if entry is not None:
            question = question.where(ScheduleMissRow.entry == entry)
        question = question.limit(limit)
        return self._database.read(
            lambda session: [_missed(row) for row in session.scalars(question)]
        )

    def runs(
        self, *, entry: str | None = None, since: datetime | None = None, limit: int | None = None
    ) -> Sequence[Run]:
        """The latest first."""
        question = select(ScheduleRunRow).order_by(ScheduleRunRow.due_at.desc()).limit(limit)
        if entry is not None:
            question = question.where(ScheduleRunRow.entry == entry)
        if since is not None:
            question = question.where(ScheduleRunRow.due_at >= since)
        return self._database.read(lambda session: [_run(row) for row in session.scalars(question)])

    def run(self, task_id: str) -> Run | None:
        def work(session: Session) -> Run | None:
            row = session.get(ScheduleRunRow, task_id)
            return None if row is None else _run(row)

        return self._database.read(work)


def missed_since(missed: Sequence[Missed], entry: str, since: datetime) -> int:
    """How many slots; of a stretch that began before, the share that lies after."""
    return sum(_slots_after(each, since) for each in missed if each.entry == entry)


def _slots_after(missed: Missed, since: datetime) -> int:
    if missed.from_at >= since or missed.to_at <= missed.from_at:
        return missed.slots if missed.to_at >= since else 0
    share = (missed.to_at - since) / (missed.to_at - missed.from_at)
    return max(0, round(missed.slots * share))


def _without_slot(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("slot", "sent_at")}


def _withdraw(session: Session, going: Withdrawn) -> None:
    mine, first = ScheduleMissRow.entry == going.entry, ScheduleMissRow.first_slot
    session.execute(delete(ScheduleMissRow).where(mine, first >= going.from_slot))
    session.execute(
        update(ScheduleMissRow)
        .where(mine, ScheduleMissRow.last_slot >= going.from_slot)
        .values(last_slot=going.from_slot - 1)
    )


def _sent(sent: Sent) -> dict[str, Any]:
    return {name: value for name, value in asdict(sent).items() if name != "actor" or value}


def _audit(
    name: str, verb: str, actor: str, reason: str, now: datetime, after: dict[str, Any]
) -> AuditRow:
    return AuditRow(
        at=now,
        actor=actor,
        action=f"schedule.{verb}",
        subject=f"schedule:{name}",
        before=None,
        after=after,
        reason=reason,
    )


def _pause(row: SchedulePauseRow) -> Pause:
    return Pause(name=row.name, at=row.at, until=row.until, actor=row.actor, reason=row.reason)


def _known(row: ScheduleRow) -> Known:
    return Known(**{name: getattr(row, name) for name in Known.__slots__})


def _missed(row: ScheduleMissRow) -> Missed:
    return Missed(**{name: getattr(row, name) for name in Missed.__slots__})


def _run(row: ScheduleRunRow) -> Run:
    return Run(**{name: getattr(row, name) for name in Run.__slots__})
