"""Feeds of four venues for half an hour while everything goes wrong, held to the exchange's truth.

``python -m tests.campaign.soak_feed --minutes 30 --seed 1 [--broker embedded]``
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from botswarm.testing.servers import wait_until
from tests.campaign.feed_faults import Faults, Outage
from tests.campaign.feed_stage import (
    BROKERS,
    SYMBOLS,
    Counted,
    Daemon,
    Stage,
    Weight,
    set_up,
    wait_for_roles,
)
from tests.campaign.feed_watch import Expected, Truth, Verdict, Watch, is_complete, judge

CONNECTED_WITHIN_S, POOL_WITHIN_S = 5.0, 30.0
COMPLETE_WITHIN_S = 90.0
MENDED_WITHIN_S = 10.0
PAUSE_S = (2.0, 5.0)
LIFETIME_S, AGE_S = 45, 60
"""At first the venue's day ends before the pool's own renewal; later after it."""
KILL_SHARE, WARM_SHARE = 0.4, 0.5
GROWTH_MAX = 1.06
GROWTH_BYTES = 4 * 1024 * 1024
WEIGH_EVERY_S = 2.0
SETTINGS: Mapping[str, str] = {
    "BOTSWARM_FEED_PING_EVERY_S": "2",
    "BOTSWARM_FEED_PONG_TIMEOUT_S": "1",
    "BOTSWARM_FEED_PINGS_MISSED_MAX": "2",
    "BOTSWARM_FEED_CONNECTIONS_INITIAL": "2",
    "BOTSWARM_FEED_CONNECTION_AGE_MAX_S": str(AGE_S),
    "BOTSWARM_FEED_MEMORY_MAX_MB": "300",
}


@dataclass(slots=True)
class Report:
    """``failures`` is empty where every count is right."""

    seed: int
    minutes: float
    broker: str
    faults: Counter[str] = field(default_factory=Counter)
    verdicts: list[Verdict] = field(default_factory=list)
    exact: list[str] = field(default_factory=list)
    reconnect_s: list[float] = field(default_factory=list)
    whole_pool_s: list[float] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    silence_s: float = 0.0
    weights: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [
            f"{each.venue:18}{each.symbol:10}{each.happened:>9}{each.once:>9}{each.twice:>7}"
            f"{each.repeated:>9}{each.recovered:>10}{each.missing:>9}{each.accounted:>10}"
            f"{each.unexpected:>11}"
            for each in self.verdicts
        ]
        head = (
            f"{'stream':28}{'happened':>9}{'read':>9}{'twice':>7}{'repeats':>9}"
            f"{'recovered':>10}{'missing':>9}{'accounted':>10}{'unexpected':>11}"
        )
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return "\n".join(
            [
                f"soak of feeds: {self.minutes:g} min on {self.broker}, seed {self.seed}",
                f"faults: {sum(self.faults.values())} ({faults})",
                head,
                *rows,
                "counters beside what was told, without disturbance:",
                *(f"  {line}" for line in self.exact),
                f"outages judged: {len(self.reconnect_s)}, connected again within "
                f"{max(self.reconnect_s, default=0):.1f} s, every stream of the venue within "
                f"{max(self.whole_pool_s, default=0):.1f} s",
                f"longest silence of the exchange of ticks: {self.silence_s:.1f} s",
                f"attempts to connect: {dict(self.attempts)}",
                *self.weights,
                "failures: " + ("none" if not self.failures else ""),
                *(f"  {each}" for each in (*self.failures, *self.examples)),
            ]
        )


def run(minutes: float, seed: int, broker: str) -> Report:
    report = Report(seed, minutes, broker)
    with set_up(broker, settings=SETTINGS, seed=seed) as stage:
        truth = Truth(stage.exchange.streams_path)
        with Watch(stage.broker.url()) as watch:
            _check_counters(stage, truth, report, seed)
            weights, outages = _torment(stage, minutes * 60, seed, report)
            upto = _settle(stage, watch, truth, report)
            _check_outages(outages, truth, report)
            for daemon in stage.daemons:
                daemon.stop()
            report.verdicts = judge(watch, truth, stage.venues, upto)
            report.examples = watch.examples
            report.silence_s = watch.longest_silence(0.0)
        for verdict in report.verdicts:
            report.failures += verdict.failures
        _check_budgets(truth, report)
        _check_weights(weights, report)
        for daemon in stage.daemons:
            report.failures += [f"{daemon.title}: a traceback in {x}" for x in daemon.tracebacks]
    return report


# --- counters, exactly ------------------------------------------------------------------------


def _check_counters(stage: Stage, truth: Truth, report: Report, seed: int) -> None:
    """A known set of gaps and repetitions and nothing else: every counter is that number."""
    chance = random.Random(seed)
    _wait_for_streams(stage, truth)
    for venue in stage.venues:
        for symbol in SYMBOLS:
            # Never two losses in a row: a heartbeat between them makes two gaps of one.
            kinds = chance.choice((("withhold", "repeat", "withhold"), ("repeat", "withhold")))
            for kind in (*kinds, "repeat"):
                stage.exchange.arm(kind, venue=venue, symbol=symbol.replace("-", ""))
                report.faults[kind] += 1
    wait_until(
        lambda: not stage.exchange.misbehaviour("GET").body["armed"], "all of it to happen", 60
    )
    # Until the last gap has shown, and has been asked for.
    time.sleep(MENDED_WITHIN_S)
    # One after the other: what happens while nobody listens is nobody's gap.
    for daemon in stage.daemons:
        daemon.stop()
        truth.read_on()
        until_ms, counted = int(time.time() * 1000), daemon.counted()
        for venue in stage.venues:
            expected = truth.expected(venue, daemon.address, 0, until_ms)
            _compare(daemon, venue, counted.get(venue), expected, report)
        daemon.start()
        _wait_for_streams(stage, truth, until_ms)
        wait_for_roles(stage.daemons)


def _compare(
    daemon: Daemon, venue: str, counted: Counted | None, expected: Expected, report: Report
) -> None:
    name = f"{daemon.title} {venue}"
    report.exact.append(f"{name}: counted {counted}, told {expected}")
    if counted is None:
        report.failures.append(f"{name} said nothing when it was told to stop")
        return
    pairs = {
        "gaps": (counted.gaps, expected.gaps),
        "trades missed": (counted.missed, expected.missed),
        "trades recovered": (counted.recovered, expected.missed),
        "duplicates": (counted.duplicates, expected.duplicates),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            report.failures.append(f"{name} counted {ours} {what}, there were {theirs}")


def _wait_for_streams(stage: Stage, truth: Truth, since_ms: int = 0) -> None:
    def all_told() -> bool:
        truth.read_on()
        return all(
            any(at > since_ms for at, _ in truth.told[venue, daemon.address, symbol])
            for venue in stage.venues
            for daemon in stage.daemons
            for symbol in SYMBOLS
        )

    wait_until(all_told, "every daemon to be told of every market", 30)


# --- everything at once -----------------------------------------------------------------------


def _torment(
    stage: Stage, seconds: float, seed: int, report: Report
) -> tuple[dict[str, list[Weight]], list[Outage]]:
    began = time.monotonic()
    faults = Faults(stage, seed, kills_until=began + KILL_SHARE * seconds)
    weights: dict[str, list[Weight]] = {daemon.title: [] for daemon in stage.daemons}
    stage.exchange.arm("lifetime", seconds=LIFETIME_S)
    try:
        _strike_on(stage, faults, seconds, seed, weights)
    finally:
        faults.end()
    report.faults += faults.counts
    return weights, faults.outages


def _strike_on(
    stage: Stage, faults: Faults, seconds: float, seed: int, weights: dict[str, list[Weight]]
) -> None:
    chance = random.Random(seed + 1)
    began = next_strike = weighed_at = time.monotonic()
    has_mended = False
    while (now := time.monotonic()) - began < seconds:
        if not has_mended and now - began > seconds / 2:
            has_mended = True
            stage.exchange.arm("lifetime", seconds=10 * AGE_S)
        if now >= next_strike:
            next_strike = now + chance.uniform(*PAUSE_S)
            faults.strike()
        if now - began > WARM_SHARE * seconds and now - weighed_at > WEIGH_EVERY_S:
            weighed_at = now
            for daemon in stage.daemons:
                weights[daemon.title].append(daemon.weigh())
        time.sleep(0.1)


def _settle(stage: Stage, watch: Watch, truth: Truth, report: Report) -> dict[str, int]:
    wait_for_roles(stage.daemons)
    time.sleep(3)
    truth.read_on()
    upto = truth.last_ids()
    try:
        wait_until(
            lambda: is_complete(watch, truth, stage.venues, upto),
            "every trade to be read or accounted for",
            COMPLETE_WITHIN_S,
        )
    except Exception as error:
        report.failures.append(str(error))
    truth.read_on()
    return upto


def _check_outages(outages: Sequence[Outage], truth: Truth, report: Report) -> None:
    for outage in outages:
        for address in outage.addresses:
            found = _recovery(truth, outage, address)
            if found is None:
                report.failures.append(f"{outage.venue} never came back for {address}")
                continue
            connected_s, whole_s = found
            report.reconnect_s.append(connected_s)
            if connected_s > CONNECTED_WITHIN_S:
                report.failures.append(
                    f"{outage.venue} was back for {connected_s:.1f} s before {address} was"
                )
            if whole_s is not None:
                report.whole_pool_s.append(whole_s)
                if whole_s > POOL_WITHIN_S:
                    report.failures.append(
                        f"{outage.venue} was back for {whole_s:.1f} s before all of {address} was"
                    )


def _recovery(truth: Truth, outage: Outage, address: str) -> tuple[float, float | None] | None:
    """Seconds until the first connection and until every market was told; None for never."""
    connected = [
        row["at"]
        for row in truth.connects
        if (row["venue"], row["peer"], row["outcome"]) == (outage.venue, address, "accepted")
        and row["at"] >= outage.ended_ms
    ]
    if not connected:
        return None
    firsts = []
    for symbol in SYMBOLS:
        told = truth.told[outage.venue, address, symbol]
        firsts.append(min((at for at, _ in told if at > outage.ended_ms), default=None))
    whole = None if None in firsts else max(at for at in firsts if at is not None)
    return (
        (min(connected) - outage.ended_ms) / 1000,
        None if whole is None else (whole - outage.ended_ms) / 1000,
    )


# --- what must stay as it is ------------------------------------------------------------------


def _check_budgets(truth: Truth, report: Report) -> None:
    for row in truth.connects:
        report.attempts[f"{row['venue']} {row['outcome']}"] += 1
    for outcome in ("limited", "banned"):
        for venue in {row["venue"] for row in truth.connects if row["outcome"] == outcome}:
            many = report.attempts[f"{venue} {outcome}"]
            report.failures.append(f"{venue}: {many} attempts above its budget ({outcome})")


def _check_weights(weights: Mapping[str, Sequence[Weight]], report: Report) -> None:
    for title, found in weights.items():
        if len(found) < 8:
            continue
        quarter = len(found) // 4
        first, last = found[:quarter], found[-quarter:]
        before, after = _middle(first, "rss"), _middle(last, "rss")
        report.weights.append(
            f"{title}: {before / 2**20:.1f} MB, at the end {after / 2**20:.1f} MB; threads "
            f"{_middle(first, 'threads'):.0f} and {_middle(last, 'threads'):.0f}, sockets "
            f"{_middle(first, 'sockets'):.0f} and {_middle(last, 'sockets'):.0f}, files "
            f"{_middle(first, 'files'):.0f} and {_middle(last, 'files'):.0f}"
        )
        if after > before * GROWTH_MAX + GROWTH_BYTES:
            report.failures.append(f"{title} grew from {before:.0f} to {after:.0f} bytes")
        for what in ("threads", "sockets", "files"):
            if _middle(last, what) > _middle(first, what) + 4:
                report.failures.append(f"{title} has more {what} than before")


def _middle(found: Sequence[Weight], what: str) -> float:
    return float(statistics.median(getattr(each, what) for each in found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", choices=sorted(BROKERS), default="rabbitmq")
    options = parser.parse_args()
    report = run(options.minutes, options.seed, options.broker)
    print(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
