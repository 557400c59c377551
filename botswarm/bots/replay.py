"""Decide again over what was recorded, and tell every difference from what was decided then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botswarm.bots.closes import Closes, closes_between, running_spans
from botswarm.bots.inputs import Lost, Situation, Told, unpacked
from botswarm.bots.past import Past
from botswarm.bots.spec import budget_of, parameters_of
from botswarm.ledger.bot import Bot
from botswarm.ledger.configurations import configuration
from botswarm.ledger.evaluations import Kept
from botswarm.ledger.store import Ledger
from botswarm.strategies import evaluate as one
from botswarm.strategies.registry import Catalog

COMPARED = (
    *("verdict", "nearest", "indicators", "rules", "orders", "cancels", "gate", "remembered"),
)
SIGNAL_LIFE = timedelta(seconds=10)
"""Of orders that are only compared; when they end is no part of what is."""
OUTSIDE = frozenset(
    {"halted", "reducing", "setback", "shadow", "not armed", "account not armed", "switched off"}
)
"""Gates that look at more than the decision: what stopped a bot there is not asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that came out another way than it did then."""

    at: datetime
    sequence: int
    what: str
    then: Any
    again: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    bot: str
    first: datetime
    last: datetime
    decided_again: int
    """Changed decisions whose inputs are all there."""
    not_asked: int
    """Changes in which the bot was stopped before it was asked; there is nothing to decide."""
    lost: Mapping[str, int]
    """Changed decisions that cannot be made again: why, and how many."""
    closes: Closes
    differences: Sequence[Difference]


@dataclass(slots=True)
class _Count:
    again: int = 0
    not_asked: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def replay(
    ledger: Ledger,
    catalog: Catalog,
    name: str,
    first: datetime,
    last: datetime,
    changes: Mapping[str, object] | None = None,
) -> Replay:
    """``changes`` are parameters, or the budget, to be decided with instead: what if.

    Raises NotFound where the bot's strategy is gone, and BadParameters for impossible changes.
    """
    versions = _versions(ledger, name)
    kept = ledger.evaluations.between(name, first, last)
    tellers: dict[int, Told] = {}
    past, count = Past(ledger), _Count()
    for each in kept:
        if each.inputs is None:
            count.not_asked += 1
            continue
        if each.version not in tellers:
            said = versions[each.version]
            tellers[each.version] = _told(catalog, name, said, changes or {})
        _again(past, each, tellers[each.version], count)
    latest = versions[max(versions)]
    running = running_spans(ledger.audit.of_bot(name), last)
    closes = closes_between(
        ledger, kept, tellers, (latest["venue"], latest["symbol"]), last, running
    )
    missing = [
        Difference(at=each.at, sequence=0, what="decision", then=each.then, again=each.again)
        for each in closes.missing
    ]
    return Replay(
        bot=name,
        first=first,
        last=last,
        decided_again=count.again,
        not_asked=count.not_asked,
        lost=count.lost,
        closes=closes,
        differences=sorted([*count.differences, *missing], key=lambda each: each.at),
    )


def _again(past: Past, kept: Kept, told: Told, count: _Count) -> None:
    assert kept.inputs is not None
    try:
        situation = unpacked(kept.inputs, told, past.load)
    except Lost as error:
        words = str(error)
        count.lost[words] = count.lost.get(words, 0) + 1
        return
    count.again += 1
    now = datetime.fromisoformat(kept.record["at"])
    then = _said(kept.record, kept.inputs.get("remembered"))
    try:
        again = _decided(situation, now)
    except Exception as error:
        # A stranger's code; that it fails now is a difference like any other.
        again = {"error": f"{type(error).__name__}: {error}"}
        then = {"error": None}
    if kept.record.get("stopped") and kept.record["stopped"]["gate"] in OUTSIDE:
        then["gate"] = again.get("gate")
        if not kept.inputs.get("remembered"):
            then["remembered"] = again.get("remembered")
    for what in again:
        if then.get(what) != again[what]:
            count.differences.append(
                Difference(
                    at=kept.at,
                    sequence=kept.sequence,
                    what=what,
                    then=then.get(what),
                    again=again[what],
                )
            )


def _decided(situation: Situation, now: datetime) -> dict[str, Any]:
    evaluation = one.evaluate(
        situation.subject,
        situation.market,
        situation.candles,
        now,
        signal_life=SIGNAL_LIFE,
        series=situation.series,
        others=situation.others,
        book=situation.book,
    )
    record = one.record(evaluation, situation.subject, situation.market, now, situation.others)
    memory = evaluation.decision.memory if evaluation.decision else None
    is_new = memory is not None and memory != situation.subject.memory
    return _said(record, dict(memory) if is_new and memory is not None else None)


def _said(record: Mapping[str, Any], remembered: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a decision is compared by."""
    said = {name: record.get(name) for name in COMPARED}
    said["orders"] = record.get("wanted") or record.get("orders")
    stopped = record.get("stopped")
    said["gate"] = stopped["gate"] if stopped else None
    said["remembered"] = remembered
    return said


# --- the bot as it was ----------------------------------------------------------------------------


def _versions(ledger: Ledger, name: str) -> Mapping[int, Mapping[str, Any]]:
    """Configurations by version; raises NotFound where there never was such a bot."""
    found: dict[int, Mapping[str, Any]] = {
        each.version: each.configuration for each in ledger.roster.versions(name)
    }
    if not found:
        bot = ledger.bots.get(name)
        found[bot.version] = configuration(bot)
    return found


def _told(
    catalog: Catalog, name: str, said: Mapping[str, Any], changes: Mapping[str, object]
) -> Told:
    parameters = {**said["parameters"], **changes}
    bot = Bot(
        name=name,
        strategy=said["strategy"],
        venue=said["venue"],
        symbol=said["symbol"],
        account=said["account"],
        timeframe=said["timeframe"],
        parameters=parameters,
    )
    return Told(
        bot=bot.name,
        account=bot.account,
        strategy=catalog.make(bot.strategy, parameters_of(bot)),
        timeframe=bot.timeframe,
        budget=budget_of(bot),
    )
