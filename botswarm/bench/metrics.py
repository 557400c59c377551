"""What it costs to be watched: scrapes of a swarm with many bots, and orders with and without."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botswarm.bench import scrapes, watching

SCRAPE_MAX_MS = 100.0
COST_MAX = 0.03
VERDICTS = {
    True: "yes",
    False: "NO",
    None: "not shown, the rounds differ too much: run more on a machine that is otherwise idle",
}

Progress = Callable[[str], None]
Within = tuple[float, float] | None
"""Where the mean of endlessly many lies, 95 times of 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    bots: int = 10_000
    scrapes: int = 60
    settle_s: float = 20.0
    """The swarm has taken up its bots by then."""
    orders: int = 480
    """As many are bought as are sold: no turn leaves the account poorer but for the fees."""
    pairs: int = 10
    """Of so many each, by the same workers, one half of a pair watched."""
    drained: int = 4000
    """At once, watched."""
    rounds: int = 4
    start_s: float = 10.0
    """Workers have settled by then."""
    idle_s: float = 10.0
    """Twice so long nothing is to be done, watched and not."""
    limit_s: float = 1200.0
    """No round begins later; one that has begun is ended."""


QUICK = Size(
    bots=2000,
    scrapes=10,
    settle_s=5.0,
    orders=180,
    pairs=2,
    drained=600,
    rounds=1,
    start_s=3.0,
    idle_s=5.0,
)


def main(*, size: Size, progress: Progress = lambda line: None) -> dict[str, Any]:
    """Figures as plain data; docs/bench.md says under each key exactly what is measured."""
    began = time.monotonic()

    def tell(line: str) -> None:
        progress(f"{time.monotonic() - began:4.0f} s  {line}")

    tell(f"a swarm of {size.bots:,} bots is started and scraped")
    scraped = scrapes.measured(size.bots, size.scrapes, size.settle_s, tell)
    tell("orders by turns, watched and not")
    load = watching.Load(
        orders=size.orders,
        pairs=size.pairs,
        drained=size.drained,
        rounds=size.rounds,
        settle_s=size.start_s,
        idle_s=size.idle_s,
    )
    cost = watching.measured(load, began + size.limit_s, tell)
    return {
        "command": "botswarm bench metrics",
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began),
        "bots": size.bots,
        "scrapes": scraped,
        "scrape_is_met": all(_is_quick(each) for each in scraped.values()),
        "cost": cost,
        "cost_is_met": cost_is_met(
            [cost["taken_within"], cost["of_machine_within"]],
            [cost["fewer_within"], cost["dearer_within"]],
        ),
    }


def cost_is_met(shown: Sequence[Within], compared: Sequence[Within]) -> bool | None:
    """None where nothing is shown. Turns that are compared are too unlike each other to show it,
    and may show the contrary.
    """
    if any(each is not None and each[0] > COST_MAX for each in (*shown, *compared)):
        return False
    return True if all(each is not None and each[1] < COST_MAX for each in shown) else None


def _is_quick(scraped: Mapping[str, Any]) -> bool:
    return scraped["longest_ms"] < SCRAPE_MAX_MS and not scraped["unanswered"]


def table(figures: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{figures['command']}, {figures['began_at']}, {figures['bots']:,} bots, "
        f"{figures['took_s']} s in all",
        f"{'a scrape of':<24}{'scrapes':>9}{'p50 ms':>9}{'p95 ms':>9}{'longest':>9}{'series':>9}"
        f"{'bytes':>10}",
    ]
    for name, each in figures["scrapes"].items():
        lines.append(
            f"{name:<24}{each['scrapes']:>9}{each['p50_ms']:>9}{each['p95_ms']:>9}{each['longest_ms']:>9}"
            f"{each['series']:>9}{each['bytes']:>10,}"
            + (f"  {each['unanswered']} without an answer" if each["unanswered"] else "")
        )
    cost = figures["cost"]
    lines += [
        f"while orders are filled, watching takes {100 * cost['taken']:.1f} % of the processor time"
        + _bounds(cost["taken_within"])
        + f"; with nothing to do {100 * cost['of_machine']:.1f} % of all cores"
        + _bounds(cost["of_machine_within"])
        + f", in {cost['rounds']} rounds",
        f"compared with turns that are not watched, {100 * cost['fewer']:.1f} % fewer orders/s"
        + _bounds(cost["fewer_within"])
        + f", {100 * cost['dearer']:.1f} % more processor time for one"
        + _bounds(cost["dearer_within"])
        + f", over {cost['pairs']} pairs of turns",
    ]
    for name, words in (
        ("scrape_is_met", "each scrape < 100 ms"),
        ("cost_is_met", "watching takes < 3 % of this machine"),
    ):
        lines.append(f"{words}: {VERDICTS[figures[name]]}")
    return "\n".join(lines)


def _bounds(within: Within) -> str:
    return "" if within is None else f" ({100 * within[0]:.1f} to {100 * within[1]:.1f} %)"
