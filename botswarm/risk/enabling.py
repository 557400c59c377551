"""What becomes of an enabling at each look: it waits, opens, steps back or ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from botswarm.domain.amount import plain
from botswarm.domain.enabling import ALL, NONE, OF_ORDERS, UNITS, Enabling, EnablingState, Figures
from botswarm.domain.permission import TradingState

GAP_MAX = timedelta(seconds=30)
"""What was not looked at for longer was not watched: its stage is held anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """What holds for the swarm now."""

    state: TradingState
    share: int = ALL
    is_held_by_system: bool = False
    """Whatever holds it lets it go by itself."""
    reason: str = ""
    objection: str | None = None
    """Why trading must not be opened further now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How it stands after a look."""

    state: EnablingState
    share: int
    stage_at: datetime
    words: str | None = None


def decide(enabling: Enabling, swarm: Swarm, figures: Figures, now: datetime) -> Step:
    """Stepping back goes before everything that would open further."""
    if (why := _overruled(enabling, swarm)) is not None:
        return _ended(enabling, EnablingState.OVERRULED, why)
    if found := exceeded(enabling, figures):
        return _step_back(enabling, found, now)
    if enabling.state is EnablingState.STEPPED_BACK:
        return _stay(enabling, enabling.stage_at, enabling.words)
    if (why := _not_watched(enabling, swarm, figures, now)) is not None:
        return _stay(enabling, now, why)
    if now - enabling.stage_at < enabling.plan.hold:
        return _stay(enabling, enabling.stage_at, None)
    return _next(enabling, now)


def exceeded(enabling: Enabling, figures: Figures) -> str | None:
    """All that is over its limit, in words."""
    found = []
    for watched, limit in enabling.plan.abort_on.items():
        value = figures.of(watched)
        if value is None or value <= limit or not figures.is_burst(watched):
            continue
        unit = UNITS[watched]
        of = f" of the last {figures.orders} orders" if watched in OF_ORDERS else ""
        of = f" at {figures.silent}" if figures.silent and watched.value == "data_age" else of
        found.append(f"{watched} is {plain(value)}{unit}{of}, over {limit}{unit}")
    return "; ".join(found) or None


def _overruled(enabling: Enabling, swarm: Swarm) -> str | None:
    if swarm.state is not TradingState.ACTIVE:
        return None if swarm.is_held_by_system else f"trading is {swarm.state}: {swarm.reason}"
    if swarm.share != enabling.share:
        return f"trading was opened to {swarm.share} % otherwise: {swarm.reason}"
    return None


def _not_watched(enabling: Enabling, swarm: Swarm, figures: Figures, now: datetime) -> str | None:
    """Why the time of the stage begins anew: it must not pass while nobody could see."""
    if swarm.state is not TradingState.ACTIVE:
        return f"waits: trading is {swarm.state}: {swarm.reason}"
    if swarm.objection is not None:
        return f"waits: {swarm.objection}"
    unknown = [
        watched.value
        for watched in enabling.plan.abort_on
        if watched not in OF_ORDERS and figures.of(watched) is None
    ]
    if unknown:
        return f"waits: nobody knows {' or '.join(unknown)}"
    last = enabling.evaluated_at or enabling.stage_at
    if now < enabling.stage_at or now - last > GAP_MAX:
        return f"nobody watched for {abs((now - last).total_seconds()):.0f} s: held anew"
    return None


def _step_back(enabling: Enabling, found: str, now: datetime) -> Step:
    share = enabling.plan.before(enabling.share)
    state = EnablingState.FAILED if share == NONE else EnablingState.STEPPED_BACK
    words = f"stepped back from {enabling.share} % to {share} %: {found}"
    return Step(state=state, share=share, stage_at=now, words=words)


def _next(enabling: Enabling, now: datetime) -> Step:
    share = enabling.plan.after(enabling.share)
    if share is None:
        return _ended(enabling, EnablingState.DONE, "all stages went well")
    return Step(state=enabling.state, share=share, stage_at=now, words=f"opened to {share} %")


def _stay(enabling: Enabling, stage_at: datetime, words: str | None) -> Step:
    kept = enabling.words if words is None else words
    if words is None and kept is not None and kept.startswith("waits"):
        kept = None
    return Step(state=enabling.state, share=enabling.share, stage_at=stage_at, words=kept)


def _ended(enabling: Enabling, state: EnablingState, words: str) -> Step:
    return Step(state=state, share=enabling.share, stage_at=enabling.stage_at, words=words)
