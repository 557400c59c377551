"""What a sweep is given, what it answers, and what becomes of the answer: kept, told, enforced."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botswarm.clock import Clock
from botswarm.config import Settings
from botswarm.domain.finding import Finding
from botswarm.domain.limits import Limit
from botswarm.domain.order import OrderKind
from botswarm.domain.permission import TradingState
from botswarm.errors import BotswarmError
from botswarm.ledger.findings import SweepDone
from botswarm.ledger.halts import Cause
from botswarm.ledger.store import Ledger

logger = logging.getLogger(__name__)

FINDINGS_MAX = 500
"""Of one sweep: of what goes wrong everywhere at once the first so many say enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What sweeps hold the swarm against, beside the limits that people set in the ledger."""

    defaults: Sequence[Limit] = ()
    mark_age_max: timedelta = timedelta(seconds=60)
    """An older price counts as unknown."""
    day_begins: timedelta = timedelta(0)
    """After midnight UTC."""
    stuck_after: timedelta = timedelta(seconds=60)
    closes_on_breach: bool = False

    @classmethod
    def of(cls, settings: Settings, defaults: Sequence[Limit]) -> Rules:
        hours, _, minutes = settings.risk_day_begins.partition(":")
        return cls(
            defaults=defaults,
            mark_age_max=timedelta(seconds=settings.risk_mark_age_max_s),
            day_begins=timedelta(hours=int(hours), minutes=int(minutes)),
            stuck_after=timedelta(seconds=settings.risk_order_stuck_after_s),
            closes_on_breach=settings.risk_close_on_breach,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    ledger: Ledger
    clock: Clock
    rules: Rules = field(default_factory=Rules)
    ring: Callable[[datetime], object] = lambda now: None
    """Ring for what was committed and nobody has rung for; else somebody does within seconds."""
    kinds: Callable[[str, str], frozenset[OrderKind] | None] = lambda venue, account: None
    """The orders that an account's venue takes; None where that is not known."""
    pause: Callable[[float], object] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    looked: int
    findings: Sequence[Finding] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, for people."""
    then: Callable[[], Mapping[str, Any]] | None = None
    """What is still to be done once everything that the findings ask for holds."""


Look = Callable[[Tools, datetime], Report]


def run(name: str, look: Look, tools: Tools) -> SweepDone:
    """One sweep. Harmless at any time and in any number at once; what fails is kept and said."""
    began, now = time.monotonic(), tools.clock.now()
    report, error = Report(looked=0), None
    news: Sequence[Finding] = ()
    restricted: list[str] = []
    more: Mapping[str, Any] = {}
    try:
        report = look(tools, now)
        news = tools.ledger.findings.keep(name, report.findings[:FINDINGS_MAX], now)
        restricted = _enforce(name, report.findings, tools, now)
        more = report.then() if report.then is not None else {}
    except BotswarmError as failure:
        error = f"{failure}; {failure.cure}" if failure.cure else str(failure)
        logger.error("the sweep %s failed: %s", name, error)
    except Exception as failure:
        # An entrance: whatever it was is kept with the sweep, and the next one comes in seconds.
        error = f"{type(failure).__name__}: {failure}"
        logger.exception("the sweep %s failed", name)
    for finding in news:
        level = logging.ERROR if finding.severity == "breach" else logging.WARNING
        logger.log(level, "%s: %s", finding.kind, finding.words)
    result = {**report.result, **more, "new": len(news)}
    if restricted:
        result["restricted"] = restricted
    done = SweepDone(
        name=name,
        at=now,
        took_ms=round((time.monotonic() - began) * 1e3),
        looked=report.looked,
        found=len(report.findings),
        result=result,
        error=error,
    )
    _note(done, tools)
    return done


def _enforce(name: str, findings: Sequence[Finding], tools: Tools, now: datetime) -> list[str]:
    """What each finding asks for holds while it stands, whoever let go of it meanwhile."""
    restricted: list[str] = []
    passing: set[str] = set()
    for finding, wanted in ((each, one) for each in findings for one in each.restrictions):
        if not wanted.is_of_a_limit and wanted.until is None:
            passing.add(wanted.scope)
        halt = tools.ledger.halts.restrict(
            wanted.scope,
            wanted.state,
            reason=finding.words,
            actor=f"limit:{finding.kind}" if wanted.is_of_a_limit else _actor(name),
            now=now,
            cause=Cause.LIMIT if wanted.is_of_a_limit else Cause.SYSTEM,
            until=None if wanted.is_of_a_limit else wanted.until,
        )
        if halt is not None:
            logger.error("%s is %s: %s", wanted.scope, wanted.state, finding.words)
            restricted.append(f"{wanted.scope} {wanted.state}")
    _let_go(name, passing, tools, now)
    return restricted


def _actor(name: str) -> str:
    return f"sweep:{name}"


def _let_go(name: str, passing: set[str], tools: Tools, now: datetime) -> None:
    """What this sweep held for as long as something stood, and stands no more."""
    for halt in tools.ledger.halts.all():
        is_ours = halt.cause is Cause.SYSTEM and halt.actor == _actor(name)
        if is_ours and halt.until is None and halt.scope not in passing:
            if halt.state is TradingState.ACTIVE:
                continue
            tools.ledger.halts.set(
                halt.scope,
                TradingState.ACTIVE,
                reason=f"over: {halt.reason}",
                actor=_actor(name),
                now=now,
                cause=Cause.SYSTEM,
            )
            logger.warning("%s is active again: %s is over", halt.scope, halt.reason)


def _note(done: SweepDone, tools: Tools) -> None:
    try:
        tools.ledger.findings.did(done)
    except BotswarmError as error:
        logger.error("that %s was swept is not in the ledger: %s", done.name, error)
