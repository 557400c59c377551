"""The feed measured: from a venue's sockets to confirmed messages, beside cryptofeed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from botswarm.bench.feed_sides import (
    CONNECTIONS,
    CRYPTOFEED,
    STREAMS_PER_CONNECTION,
    Ceiling,
    Cryptofeed,
    FeedServer,
    busy_s,
    quantile_ms,
)
from botswarm.bench.feed_tally import TickQueue, connected
from botswarm.bench.stream_server import StreamServer
from botswarm.errors import BotswarmError, NotFound
from botswarm.testing.servers import (
    AmqpServer,
    EmbeddedBrokerServer,
    RabbitMQServer,
    wait_until,
)

Progress = Callable[[str], None]
MARKETS = CONNECTIONS * STREAMS_PER_CONNECTION // 2
BUSY, QUIET = 20_000, 670
FLAT_OUT = 200_000
SETTLE_S = 60.0
LIMITS = {
    "trades_per_s": 20_000, "rss_mb": 150, "quiet_cores": 0.10, "quiet_p95_ms": 10,
    "quiet_rss_mb": 100,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    warm_s: float
    quiet_s: float
    busy_s: float
    markets: int = MARKETS


FULL = Size(warm_s=40, quiet_s=30, busy_s=20)
QUICK = Size(warm_s=5, quiet_s=5, busy_s=5)


def main(
    *,
    quick: bool = False,
    cache: Path | None = None,
    progress: Progress = lambda line: None,
    size: Size | None = None,
    rabbitmq: Callable[[], AmqpServer] = RabbitMQServer,
) -> dict[str, Any]:
    """Measure, and return plain data. ``cache`` is where cryptofeed is kept; without it, none."""
    size = size or (QUICK if quick else FULL)
    answer: dict[str, Any] = {
        "command": f"botswarm bench feed{' --quick' if quick else ''}",
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(),
                    "python": platform.python_version(), "botswarm": version("botswarm")},
        "markets": size.markets,
        "streams": 2 * size.markets,
        "connections": CONNECTIONS,
        "limits": LIMITS,
        "missing": [],
    }  # fmt: skip
    brokers: dict[str, Callable[[], AmqpServer]] = {
        "rabbitmq": rabbitmq,
        "embedded": EmbeddedBrokerServer,
    }
    for name, make in brokers.items():
        try:
            with ExitStack() as stack:
                broker = stack.enter_context(make())
                progress(f"{name}: our feed")
                answer[name] = _ours(broker, size, progress)
                if name == "rabbitmq" and cache is not None:
                    answer["cryptofeed"] = _theirs(broker, size, cache, progress)
        except NotFound as error:
            answer["missing"].append(f"{name} was not measured: {error.cause}; {error.cure}")
        except BotswarmError as error:
            answer["missing"].append(f"{name}: {error}")
    progress("the ceiling: reading and decoding only")
    answer["ceiling"] = _ceiling(size)
    return answer | {"holds": _holds(answer)}


def _ours(broker: AmqpServer, size: Size, progress: Progress) -> dict[str, Any]:
    with ExitStack() as stack:
        venue = stack.enter_context(StreamServer(markets=size.markets, trades_per_s=0, history=2))
        feed = stack.enter_context(FeedServer(venue, broker.url()))
        queue = stack.enter_context(closing(TickQueue(broker.url())))
        # The candles it was too late for are asked of the venue first, as after any start.
        venue.set_rates(trades_per_s=QUIET)
        time.sleep(size.warm_s)
        progress(f"  {QUIET} messages a second")
        quiet = _phase(venue, feed, broker, QUIET, size.quiet_s)
        progress(f"  {BUSY:,} trades a second")
        venue.set_rates(trades_per_s=BUSY)
        time.sleep(2)
        busy = _phase(venue, feed, broker, BUSY, size.busy_s)
        venue.set_rates(trades_per_s=0)
        time.sleep(1)
        truth = venue.truth()
        wait_until(lambda: _is_settled(feed), "the feed to say all it has", SETTLE_S)
        progress("  counting what arrived, by its numbers")
        arrived = queue.count(truth["first_id"], truth["last_ids"])
        lost = {k: v for k, v in feed.metrics().items() if k.startswith("botswarm_events_lost")}
    return {"quiet": quiet, "busy": busy, "arrived": arrived, "counted_by_feed": lost}


def _is_settled(feed: FeedServer) -> bool:
    """No trade waits any more, and none is on its way; candles and digests go on for ever."""
    figures = feed.metrics()
    waiting = sum(v for k, v in figures.items() if k.startswith("botswarm_trades_waiting"))
    return waiting == 0 and _is_confirmed(feed)


def _is_confirmed(feed: FeedServer) -> bool:
    figures = feed.metrics()
    sent = sum(
        v
        for k, v in figures.items()
        if k.startswith("botswarm_events_published_total") and 'type="trade"' in k
    )
    confirmed = sum(
        v
        for k, v in figures.items()
        if k.startswith("botswarm_event_latency_ms_count") and 'type="trade"' in k
    )
    return sent == confirmed


def _phase(
    venue: StreamServer, feed: FeedServer, broker: AmqpServer, rate: int, seconds: float
) -> dict[str, Any]:
    ours, theirs = psutil.Process(feed.pid), psutil.Process(broker.pid)
    truth, figures = venue.truth(), feed.metrics()
    used, broker_used, began = busy_s(ours), busy_s(theirs), time.monotonic()
    rss = 0
    while time.monotonic() - began < seconds:
        time.sleep(0.25)
        rss = max(rss, ours.memory_info().rss)
    took = time.monotonic() - began
    cores, broker_cores = (busy_s(ours) - used) / took, (busy_s(theirs) - broker_used) / took
    after, then = feed.metrics(), venue.truth()
    sent = then["sent"]["trade"] - truth["sent"]["trade"]
    received = _grown(figures, after, 'botswarm_events_received_total{exchange="simulated",type="t')
    return {
        "offered_per_s": rate,
        "sent_per_s": round(sent / took, 1),
        "received_per_s": round(received / took, 1),
        "messages_out_per_s": round(_grown(figures, after, "botswarm_events_published") / took, 1),
        "behind": then["behind"],
        "cores": round(cores, 3),
        "us_per_trade": round(1e6 * cores * took / max(1, sent), 1),
        "broker_cores": round(broker_cores, 3),
        "rss_mb": round(rss / 1e6, 1),
        "p50_ms": round(quantile_ms(figures, after, 0.50), 2),
        "p95_ms": round(quantile_ms(figures, after, 0.95), 2),
        "p99_ms": round(quantile_ms(figures, after, 0.99), 2),
    }


def _grown(before: Mapping[str, float], after: Mapping[str, float], start: str) -> float:
    return sum(
        value - before.get(name, 0.0) for name, value in after.items() if name.startswith(start)
    )


def _theirs(broker: AmqpServer, size: Size, cache: Path, progress: Progress) -> dict[str, Any]:
    try:
        rival = Cryptofeed(cache, progress)
    except (BotswarmError, OSError) as error:
        return {"failed": str(error)}
    progress("rabbitmq: cryptofeed")
    found: dict[str, Any] = {"version": CRYPTOFEED}
    with StreamServer(markets=size.markets, trades_per_s=0) as venue:
        process = rival.start(venue, broker.url())
        try:
            wait_until(
                lambda: venue.truth()["streams"] >= 2 * size.markets, "cryptofeed's streams", 60
            )
            for name, rate, seconds in (
                ("quiet", QUIET, size.quiet_s),
                ("busy", BUSY, size.busy_s),
            ):
                venue.set_rates(trades_per_s=rate)
                time.sleep(2)
                found[name] = _phase_of(process, venue, broker, seconds) | {"offered_per_s": rate}
        finally:
            rival.stop()
    return found


def _phase_of(
    process: psutil.Process, venue: StreamServer, broker: AmqpServer, seconds: float
) -> dict[str, Any]:
    sent, depth = venue.truth()["sent"]["trade"], _published(broker)
    used, began, rss = busy_s(process), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        time.sleep(0.25)
        rss = max(rss, process.memory_info().rss)
    took = time.monotonic() - began
    out = _published(broker) - depth
    return {
        "sent_per_s": round((venue.truth()["sent"]["trade"] - sent) / took, 1),
        "messages_out_per_s": round(out / took, 1),
        "cores": round((busy_s(process) - used) / took, 3),
        "us_per_trade": round(1e6 * (busy_s(process) - used) / max(1, out), 1),
        "rss_mb": round(rss / 1e6, 1),
    }


def _published(broker: AmqpServer) -> int:
    connection = connected(broker.url())
    try:
        found: int = connection.channel().queue_declare("cryptofeed", passive=True).message_count
        return found
    finally:
        connection.close()


def _ceiling(size: Size) -> dict[str, Any]:
    with StreamServer(markets=size.markets, trades_per_s=0) as venue:
        reader = Ceiling(venue)
        try:
            wait_until(lambda: venue.truth()["streams"] >= 2 * size.markets, "the streams", 30)
            found: dict[str, Any] = {}
            for name, rate in (("busy", BUSY), ("flat_out", FLAT_OUT)):
                venue.set_rates(trades_per_s=rate)
                time.sleep(1)
                frames, used, began = reader.frames(), busy_s(reader.process), time.monotonic()
                while time.monotonic() - began < size.busy_s / 2:
                    count = reader.frames()
                took, cost = time.monotonic() - began, busy_s(reader.process) - used
                found[name] = {
                    "frames_per_s": round((count - frames) / took),
                    "cores": round(cost / took, 3),
                    "us_per_trade": round(1e6 * cost / max(1, count - frames), 1),
                }
            return found
        finally:
            reader.stop()


def _holds(answer: Mapping[str, Any]) -> dict[str, bool]:
    """What was promised, and whether this run shows it."""
    found: dict[str, bool] = {}
    for broker in ("rabbitmq", "embedded"):
        if broker not in answer:
            continue
        quiet, busy, arrived = (answer[broker][key] for key in ("quiet", "busy", "arrived"))
        found |= {
            f"{broker}_20000_per_s": busy["received_per_s"] >= 0.99 * LIMITS["trades_per_s"],
            f"{broker}_no_loss": arrived["never"] == 0 and arrived["twice"] == 0,
            f"{broker}_rss_below_150_mb": busy["rss_mb"] < LIMITS["rss_mb"],
            f"{broker}_quiet_at_most_10_percent": quiet["cores"] <= LIMITS["quiet_cores"],
            f"{broker}_quiet_p95_below_10_ms": quiet["p95_ms"] < LIMITS["quiet_p95_ms"],
            f"{broker}_quiet_rss_below_100_mb": quiet["rss_mb"] < LIMITS["quiet_rss_mb"],
        }
    if "busy" in answer.get("cryptofeed", {}) and "rabbitmq" in answer:
        theirs = answer["cryptofeed"]["busy"]["messages_out_per_s"]
        ours = answer["rabbitmq"]["busy"]["received_per_s"]
        found["ten_times_cryptofeed"] = ours >= 10 * theirs
    return found


def table(answer: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{answer['command']}, {answer['began_at']}, {answer['machine']['cores']} cores, "
        f"Python {answer['machine']['python']}",
        f"{answer['streams']:,} streams of {answer['markets']:,} markets on "
        f"{answer['connections']} connections",
        "",
        f"{'':30}{'trades in/s':>12}{'out/s':>9}{'cores':>8}{'us/trade':>10}{'RSS MB':>8}"
        f"{'p50 ms':>8}{'p95 ms':>8}",
    ]
    for side in ("rabbitmq", "embedded", "cryptofeed"):
        for phase in ("quiet", "busy"):
            row = answer.get(side, {}).get(phase)
            if row:
                lines.append(
                    f"{side + ' ' + phase:30}{row.get('received_per_s', row['sent_per_s']):>12,}"
                    f"{row['messages_out_per_s']:>9,}{row['cores']:>8}{row['us_per_trade']:>10}"
                    f"{row['rss_mb']:>8}{row.get('p50_ms', '-'):>8}{row.get('p95_ms', '-'):>8}"
                )
    for phase, row in answer["ceiling"].items():
        lines.append(
            f"{'reading and decoding ' + phase:30}{row['frames_per_s']:>12,}{'':>9}"
            f"{row['cores']:>8}{row['us_per_trade']:>10}"
        )
    for side in ("rabbitmq", "embedded"):
        if side in answer:
            lines.append(f"{side}: {answer[side]['arrived']}")
    lines += [f"{'yes' if held else 'NO':>4}  {name}" for name, held in answer["holds"].items()]
    return "\n".join([*lines, *answer["missing"]])
