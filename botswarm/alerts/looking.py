"""What is wrong by what processes say of themselves, and by what limits and sweeps wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from botswarm.alerts import rules
from botswarm.alerts.judging import LASTS_MAX
from botswarm.alerts.rule import Check as CheckProbe
from botswarm.alerts.rule import Rule
from botswarm.domain.alert import Seen, Severity
from botswarm.health import ask
from botswarm.health.ask import Said
from botswarm.health.check import STATUSES, Check
from botswarm.health.pages import DETAILED
from botswarm.ledger.risk_events import RiskEvent

LIMIT_S = 4.0
SETTLES_S = 10.0
"""A process that has just been started, or has just ended, may still be replaced."""
EVENT_LASTS_S = LASTS_MAX.total_seconds()
"""What happened is told again only after it has not happened for so long."""


def look(state_dir: Path) -> Sequence[Seen]:
    return seen_of(ask.processes(state_dir, DETAILED, LIMIT_S))


def seen_of(said: Iterable[Said]) -> Sequence[Seen]:
    """The worst of each thing, however many processes say it."""
    found: dict[tuple[str, str], tuple[int, Seen]] = {}
    for each in said:
        for rank, seen in _of_process(each):
            key = (seen.name, seen.subject)
            if key not in found or rank > found[key][0]:
                found[key] = (rank, seen)
    return [seen for _, seen in found.values()]


def _of_process(said: Said) -> Iterable[tuple[int, Seen]]:
    name = said.process.card.name
    if said.code == 0:
        yield 0, _silent(name, said.trouble)
        return
    for check in said.checks:
        rule = rules.of_check(check.name, check.status)
        if rule is not None and isinstance(rule.probe, CheckProbe):
            yield STATUSES.index(check.status), _failing(rule, rule.probe, check, said)


def _silent(process: str, trouble: str) -> Seen:
    rule = rules.SILENT
    return Seen(
        name=rule.name,
        subject=process,
        severity=rule.severity,
        words=f"{process} does not answer: {trouble}",
        cure=f"botswarm ps; its last lines: botswarm logs search --process {process}",
        for_s=SETTLES_S,
    )


def _failing(rule: Rule, probe: CheckProbe, check: Check, said: Said) -> Seen:
    card = said.process.card
    subject = {"swarm": "", "machine": card.machine, "process": card.name}[probe.about]
    return Seen(
        name=rule.name,
        subject=subject,
        severity=rule.severity,
        words=f"{check.name}: {check.words} (says {card.name})",
        cure=check.cure,
        value="" if check.value is None else f"{check.value:g} {check.unit}".strip(),
        for_s=probe.for_s,
    )


def read(events: Iterable[RiskEvent]) -> Sequence[Seen]:
    """What limits and sweeps wrote down: one alert for each kind and scope, however often."""
    found: dict[tuple[str, str], Seen] = {}
    for event in events:
        rule = rules.of_event(event.kind, event.severity.value)
        if rule is None:
            continue
        is_checked = event.kind in rules.ALSO_CHECKED
        # News are told one by one: the next is no more of the same.
        of_what = event.id if rule.severity is Severity.INFO else event.scope
        subject = "" if is_checked else f"{event.kind} {of_what}"
        found[rule.name, subject] = Seen(
            name=rule.name,
            subject=subject,
            severity=rule.severity,
            words=event.words,
            cure=f"botswarm risk status; botswarm runbook {rule.name}",
            value="" if event.value is None else f"{event.value:f}",
            # What is checked besides ends when the check is well again.
            lasts_s=0 if is_checked else EVENT_LASTS_S,
        )
    return list(found.values())
