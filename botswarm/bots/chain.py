"""The way of an order from the tick its bot saw to its last fill, with the time each step took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botswarm.bots.why import summary
from botswarm.domain.amount import plain
from botswarm.domain.order import OrderState
from botswarm.ledger.orders import Attempt, Story

DONE = {
    OrderState.READY: ("intent", "the decision is committed, and its doorbell with it"),
    OrderState.APPROVED: ("gate", "approved"),
    OrderState.REFUSED: ("gate", "refused"),
    OrderState.STALE: ("gate", "stale"),
    OrderState.SENDING: ("attempt", "its bytes are committed and sent"),
    OrderState.UNKNOWN: ("venue", "no answer that proves anything"),
}


@dataclass(frozen=True, slots=True)
class Step:
    what: str
    """``tick``, ``feed``, ``evaluation``, ``intent``, ``gate``, ``attempt``, …"""
    at: datetime
    words: str
    took_ms: float | None
    """Since the step before; by two clocks, the venue's and ours, it may seem to be negative."""


def steps(story: Story) -> Sequence[Step]:
    """In the order in which one leads to the next; orders without a decision begin later."""
    # What led to the order comes first, whatever the venue's clock says.
    after = sorted([*_went(story), *_filled(story)], key=lambda each: each[1])
    made: list[Step] = []
    for what, at, words in [*_decided(story), *after]:
        before = made[-1].at if made else None
        took = None if before is None else (at - before).total_seconds() * 1000
        made.append(Step(what, at, words, took))
    return made


def _decided(story: Story) -> list[tuple[str, datetime, str]]:
    said = story.evaluation or {}
    found = []
    if said.get("exchange_ms") is not None:
        words = f"last {said.get('price')}, bid {said.get('bid')}, ask {said.get('ask')}"
        found.append(("tick", _moment(said["exchange_ms"]), f"by the venue's clock: {words}"))
    if said.get("received_ms") is not None:
        words = f"received; digest {said.get('sequence')}"
        found.append(("feed", _moment(said["received_ms"]), words))
    if said.get("at") is not None:
        version = f", version {said['version']}" if said.get("version") else ""
        words = f"{summary(said)}{version}"
        found.append(("evaluation", datetime.fromisoformat(said["at"]), words))
    return found


def _went(story: Story) -> Iterator[tuple[str, datetime, str]]:
    attempts = iter(story.attempts)
    for event in story.events:
        what, words = DONE.get(event.after, ("venue", event.after.value))
        # A moment of its own it has not: it is signed by the venue's clock.
        if event.after is OrderState.SENDING and (attempt := next(attempts, None)) is not None:
            words = f"attempt {attempt.number}; {words}; {_valid(attempt)}"
        reason = f": {event.reason}" if event.reason else ""
        yield what, event.at, f"{words}{reason}"


def _valid(attempt: Attempt) -> str:
    """By the venue's clock."""
    signed, fence = f"{attempt.signed_at:%H:%M:%S.%f}", f"{attempt.fence_at:%H:%M:%S.%f}"
    if not attempt.is_fenced:
        return f"signed {signed[:-3]}; the venue never refuses it for being late"
    return f"signed {signed[:-3]}, refused by the venue from {fence[:-3]} on"


def _filled(story: Story) -> Iterator[tuple[str, datetime, str]]:
    for fill in story.fills:
        words = f"{plain(fill.quantity)} at {plain(fill.price)}, by the venue's clock"
        yield "fill", fill.at, words


def _moment(ms: Any) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def data(story: Story) -> list[dict[str, Any]]:
    return [
        {
            "step": each.what,
            "at": each.at.isoformat(),
            "took_ms": None if each.took_ms is None else round(each.took_ms, 3),
            "words": each.words,
        }
        for each in steps(story)
    ]
