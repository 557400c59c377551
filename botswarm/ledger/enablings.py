"""Enablings in the ledger: begun by a person, moved on by whoever looks, whatever restarts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from botswarm.domain.amount import plain, plain_or_none
from botswarm.domain.enabling import ALL, Enabling, EnablingState, Figures, Plan, Watched
from botswarm.domain.permission import TradingState
from botswarm.errors import NotFound, Refused
from botswarm.ledger import halts, processes, risk_events
from botswarm.ledger.control_models import EnablingRow
from botswarm.ledger.enabling_figures import measure, results_now
from botswarm.ledger.halts import SWARM, Cause, Halt
from botswarm.ledger.models import AuditRow
from botswarm.ledger.risk_events import RiskEvent, Severity
from botswarm.ledger.session import Database

KIND = "enabling"
SHOWN = 10
OPEN = tuple(state.value for state in EnablingState if not state.is_over)


class Step(Protocol):
    """What became of an enabling at a look."""

    @property
    def state(self) -> EnablingState: ...
    @property
    def share(self) -> int: ...
    @property
    def stage_at(self) -> datetime: ...
    @property
    def words(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that is known at a look."""

    enabling: Enabling
    figures: Figures
    swarm: Halt
    objection: str | None
    now: datetime


Decide = Callable[[Look], Step]


class Enablings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, plan: Plan, *, actor: str, reason: str, now: datetime) -> Enabling:
        """Open trading to the first stage; for a person to call.

        Raises Refused for a plan that makes no sense, and while processes differ.
        """
        if (problem := plan.problem()) is not None:
            raise Refused(problem.cause, cure=problem.cure)

        def work(session: Session) -> Enabling:
            _end_open(session, "another one began", now)
            share = plan.stages[0]
            wanted = Halt(
                scope=SWARM,
                state=TradingState.ACTIVE,
                reason=reason,
                actor=actor,
                at=now,
                share=share,
            )
            halts.put(session, wanted, is_human=True)
            row = EnablingRow(
                at=now,
                actor=actor,
                reason=reason,
                plan=_written(plan),
                state=EnablingState.RUNNING.value,
                share=share,
                stage_at=now,
                baseline=_kept(results_now(session, now) or {}),
            )
            session.add(row)
            session.flush()
            _tell(session, _enabling(row), Severity.INFO, f"opened to {share} %", now)
            return _enabling(row)

        return self._database.write(work)

    def open_all(self, *, actor: str, reason: str, now: datetime) -> Halt:
        """Trading for all bots at once; for a person to call. Ends what was opening it by steps."""

        def work(session: Session) -> Halt:
            _end_open(session, f"{actor} opened trading to all bots", now)
            wanted = Halt(
                scope=SWARM,
                state=TradingState.ACTIVE,
                reason=reason,
                actor=actor,
                at=now,
                share=ALL,
            )
            return halts.put(session, wanted, is_human=True)

        return self._database.write(work)

    def cancel(self, *, actor: str, reason: str, now: datetime) -> Enabling:
        """Trading stays as far open as it is; raises NotFound where none is under way."""

        def work(session: Session) -> Enabling:
            row = _open_row(session)
            if row is None:
                raise NotFound(
                    "no enabling is under way", cure="see: botswarm trading enable --status"
                )
            _end(row, EnablingState.CANCELLED, f"cancelled by {actor}: {reason}", now)
            session.add(
                AuditRow(
                    at=now,
                    actor=actor,
                    action="enabling.cancel",
                    subject=f"enabling:{row.id}",
                    before={"share": row.share},
                    after={"share": row.share},
                    reason=reason,
                )
            )
            return _enabling(row)

        return self._database.write(work)

    def latest(self, limit: int = SHOWN) -> Sequence[Enabling]:
        question = select(EnablingRow).order_by(EnablingRow.id.desc()).limit(limit)
        return self._database.read(
            lambda session: [_enabling(row) for row in session.scalars(question)]
        )

    def step(self, decide: Decide, now: datetime) -> Enabling | None:
        """One look at the one that is under way, by ``decide``, which is pure; None without one.

        Harmless however often it runs, and in however many processes at once.
        """
        seen = self._database.read(lambda session: _measured(session, now))
        if seen is None:
            return None
        before, figures, results = seen

        def work(session: Session) -> Enabling | None:
            row = _open_row(session)
            if row is None or (row.id, row.stage_at) != (before.id, before.stage_at):
                # Somebody else moved it on since: what was measured is of another stage.
                return None
            return _moved(session, row, figures, results, decide, now)

        return self._database.write(work)


def _measured(
    session: Session, now: datetime
) -> tuple[Enabling, Figures, Mapping[str, Decimal]] | None:
    row = session.scalars(_OPEN).first()
    if row is None:
        return None
    enabling, baseline = _enabling(row), _amounts(row.baseline)
    # What a quote asset had brought before anybody knew of it is not held against this.
    results = {**(results_now(session, now) or {}), **baseline}
    return enabling, measure(session, enabling, results, now), results


_OPEN = select(EnablingRow).where(EnablingRow.state.in_(OPEN)).order_by(EnablingRow.id.desc())


def _open_row(session: Session) -> EnablingRow | None:
    return session.scalars(_OPEN.with_for_update()).first()


def _moved(
    session: Session,
    row: EnablingRow,
    figures: Figures,
    results: Mapping[str, Decimal],
    decide: Decide,
    now: datetime,
) -> Enabling:
    before, held = _enabling(row), halts.hold(session, SWARM)
    step = decide(
        Look(
            enabling=before,
            figures=figures,
            swarm=held if held is not None else _nothing_said(now),
            objection=processes.objection(session, now),
            now=now,
        )
    )
    row.state, row.share, row.stage_at = step.state.value, step.share, step.stage_at
    row.words, row.evaluated_at = step.words, now
    row.figures, row.baseline = _figures_written(figures), _kept(results)
    if step.state.is_over:
        row.ended_at = now
    after = _enabling(row)
    if step.share != before.share:
        _open_to(session, before, step, now)
    if (step.state, step.share) != (before.state, before.share):
        is_back = step.share < before.share
        _tell(session, after, Severity.BREACH if is_back else Severity.INFO, step.words or "", now)
    return after


def _open_to(session: Session, enabling: Enabling, step: Step, now: datetime) -> None:
    """By the word of the person who began it; only that opens anything further."""
    wanted = Halt(
        scope=SWARM,
        state=TradingState.ACTIVE,
        reason=f"enabling {enabling.id}: {step.words}",
        actor=f"enabling {enabling.id} of {enabling.actor}",
        at=now,
        cause=Cause.SYSTEM,
        share=step.share,
    )
    held = halts.hold(session, SWARM)
    if held is not None and held.state_at(now) is not TradingState.ACTIVE:
        # Stepping back beneath what the system holds: that stays as it is.
        halts.narrow(session, wanted)
        return
    halts.put(session, wanted, is_human=False, is_granted=True)


def _nothing_said(now: datetime) -> Halt:
    return Halt(
        scope=SWARM,
        state=halts.unsaid(SWARM),
        reason="the ledger does not say",
        actor="nobody",
        at=now,
    )


def _end_open(session: Session, words: str, now: datetime) -> None:
    for row in session.scalars(_OPEN.with_for_update()):
        _end(row, EnablingState.OVERRULED, words, now)


def _end(row: EnablingRow, state: EnablingState, words: str, now: datetime) -> None:
    row.state, row.words, row.ended_at = state.value, words, now


def _tell(
    session: Session, enabling: Enabling, severity: Severity, words: str, now: datetime
) -> None:
    figures = None if enabling.figures is None else _figures_written(enabling.figures)
    event = RiskEvent(
        at=now,
        scope=SWARM,
        kind=KIND,
        severity=severity,
        words=f"enabling {enabling.id}: {words}",
        value=Decimal(enabling.share),
        numbers={"state": enabling.state.value, "share": enabling.share, "figures": figures},
    )
    risk_events.note(session, event)


# --- as it is kept --------------------------------------------------------------------------------


def _written(plan: Plan) -> dict[str, Any]:
    return {
        "stages": list(plan.stages),
        "hold_s": plan.hold.total_seconds(),
        "abort_on": {watched.value: plain(limit) for watched, limit in plan.abort_on.items()},
    }


def _read(said: Mapping[str, Any]) -> Plan:
    return Plan(
        stages=tuple(said["stages"]),
        hold=timedelta(seconds=said["hold_s"]),
        abort_on={Watched(name): Decimal(limit) for name, limit in said["abort_on"].items()},
    )


_COUNTS = ("orders", "errors", "rejected")
_OF_FIGURES = ("error_rate", "rejects", "slippage", "data_age")


def _figures_written(figures: Figures) -> dict[str, Any]:
    said: dict[str, Any] = {name: plain_or_none(getattr(figures, name)) for name in _OF_FIGURES}
    losses = None if figures.losses is None else _kept(figures.losses)
    counts = {name: getattr(figures, name) for name in _COUNTS}
    return {**said, **counts, "losses": losses, "silent": figures.silent}


def _figures_read(said: Mapping[str, Any]) -> Figures:
    values: dict[str, Any] = {name: int(said.get(name, 0)) for name in _COUNTS}
    for name in _OF_FIGURES:
        values[name] = None if said[name] is None else Decimal(said[name])
    losses = None if said["losses"] is None else _amounts(said["losses"])
    return Figures(**values, losses=losses, silent=said["silent"])


def _kept(amounts: Mapping[str, Decimal]) -> dict[str, Any]:
    return {name: plain(amount) for name, amount in amounts.items()}


def _amounts(said: Mapping[str, Any]) -> dict[str, Decimal]:
    return {name: Decimal(amount) for name, amount in said.items()}


def _enabling(row: EnablingRow) -> Enabling:
    return Enabling(
        id=row.id,
        at=row.at,
        actor=row.actor,
        reason=row.reason,
        plan=_read(row.plan),
        state=EnablingState(row.state),
        share=row.share,
        stage_at=row.stage_at,
        evaluated_at=row.evaluated_at,
        figures=None if row.figures is None else _figures_read(row.figures),
        ended_at=row.ended_at,
        words=row.words,
    )
