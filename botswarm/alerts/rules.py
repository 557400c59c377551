"""Every alert there is, in one table."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.alerts import rules_feed, rules_machine, rules_money, rules_work
from botswarm.alerts.rule import Check, Events, Rule, Silent
from botswarm.domain.alert import Severity

RULES: tuple[Rule, ...] = (
    *rules_machine.RULES,
    *rules_feed.RULES,
    *rules_money.RULES,
    *rules_work.RULES,
)
BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}
EXPLAINED_BY: Mapping[str, frozenset[str]] = {
    rule.name: frozenset(rule.explained_by) for rule in RULES if rule.explained_by
}
SILENT: Rule = next(rule for rule in RULES if isinstance(rule.probe, Silent))
DOWN: frozenset[str] = frozenset(
    rule.name
    for rule in RULES
    if rule.severity is Severity.CRITICAL
    and rule.group
    in (rules_machine.MACHINE, rules_machine.SERVERS, rules_feed.GROUP, rules_work.WORK)
)
"""While one of these fires the swarm is not up. A limit that did what it is for is no outage."""
ALSO_CHECKED: Mapping[str, str] = {"processes": "SeveralVersions", "unreconciled": "AccountDiffers"}
"""What sweeps find and a check of health sees as well: one alert, on the whole swarm."""


def of_check(name: str, status: str) -> Rule | None:
    """The one that fires at this status of a check: the worst that it reaches."""
    found = {
        rule.probe.at: rule
        for rule in RULES
        if isinstance(rule.probe, Check) and rule.probe.name == name
    }
    if status == "fail":
        return found.get("fail") or found.get("warn")
    return found.get("warn") if status == "warn" else None


def of_event(kind: str, severity: str) -> Rule | None:
    """The one that names the kind, else the one for every other kind."""
    if kind in ALSO_CHECKED and severity != "info":
        return BY_NAME[ALSO_CHECKED[kind]]
    rest = None
    for rule in RULES:
        if not isinstance(rule.probe, Events) or rule.probe.severity not in (severity, "any"):
            continue
        if kind in rule.probe.kinds:
            return rule
        if not rule.probe.kinds:
            rest = rule
    return rest
