"""The sweep of protections: trading pauses after losses, for a while, and goes on by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from botswarm.domain.finding import Finding, Restriction
from botswarm.domain.limits import Level, level_of
from botswarm.domain.permission import TradingState
from botswarm.domain.protections import Protection, ProtectionKind
from botswarm.ledger import halts
from botswarm.ledger.halts import Cause, Halt
from botswarm.ledger.outcomes import Outcome
from botswarm.risk.pausing import Pause, pause
from botswarm.sweeps.sweep import Report, Tools

SINCE_MAX = 20_000
"""Closing orders; a sweep comes every few seconds, and takes less than one for so many."""
OF_MONEY = frozenset((ProtectionKind.LOW_PROFIT, ProtectionKind.MAX_DRAWDOWN))
BY_MARKET = frozenset((ProtectionKind.COOL_DOWN, ProtectionKind.LOW_PROFIT))


def sweep(tools: Tools, now: datetime) -> Report:
    said = [each.protection for each in tools.ledger.protections.all()]
    wanted = [each for each in said if not each.is_of_stops]
    if not wanted:
        return Report(looked=0)
    longest = max(each.time("within") + each.time("pause") for each in wanted)
    closed = tools.ledger.outcomes.since(now - longest, SINCE_MAX)
    held = {each.scope: each for each in tools.ledger.halts.all()}
    findings = list(_findings(wanted, closed, held, now))
    return Report(
        looked=len(closed),
        findings=findings,
        result={
            "protections": len(wanted),
            "pauses": len(findings),
            # Of more than it looks at the latest were, whatever their time.
            "is_cut": len(closed) >= SINCE_MAX,
        },
    )


def _findings(
    protections: Iterable[Protection],
    closed: Sequence[Outcome],
    held: Mapping[str, Halt],
    now: datetime,
) -> Iterator[Finding]:
    for protection in protections:
        for (scope, _), some in _grouped(protection, closed).items():
            found = pause(protection, scope, some)
            if found is None or found.until <= now or _was_lifted(found, held):
                continue
            yield _finding(protection, found)


def _grouped(
    protection: Protection, closed: Sequence[Outcome]
) -> Mapping[tuple[str, str], Sequence[Outcome]]:
    """By the scope that would pause, and by quote asset where sums are held against something.

    A market belongs to the whole swarm: what is about a part of the swarm pauses that part's bots
    in the market.
    """
    found: dict[tuple[str, str], list[Outcome]] = {}
    for each in closed:
        if protection.scope in each.scopes:
            quote = each.quote if protection.kind in OF_MONEY else ""
            found.setdefault((_paused(protection, each), quote), []).append(each)
    return found


def _paused(protection: Protection, outcome: Outcome) -> str:
    if protection.kind not in BY_MARKET:
        return protection.scope
    if level_of(protection.scope) in (Level.SWARM, Level.MARKET):
        return halts.market_scope(outcome.venue, outcome.symbol)
    return halts.bot_scope(outcome.bot)


def _was_lifted(found: Pause, held: Mapping[str, Halt]) -> bool:
    """A person has let it go on since: the same losses pause nothing once more."""
    halt = held.get(found.scope)
    if halt is None or halt.state is not TradingState.ACTIVE:
        return False
    return halt.cause is Cause.PERSON and halt.at >= found.since


def _finding(protection: Protection, found: Pause) -> Finding:
    until = found.until - timedelta(microseconds=found.until.microsecond)
    words = f"{protection.kind} of {protection.scope}: {found.words}; {found.scope} pauses"
    return Finding(
        kind=protection.kind.value,
        subject=f"{protection.scope} {found.scope}",
        scope=found.scope,
        severity="warn",
        words=f"{words} until {until:%H:%M:%S}",
        numbers={**found.numbers, "until": found.until.isoformat()},
        restrictions=(
            Restriction(
                scope=found.scope,
                state=TradingState.REDUCING,
                is_of_a_limit=False,
                until=found.until,
            ),
        ),
    )
