"""Measure how fast this machine runs the engine."""

from __future__ import annotations

from pathlib import Path

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session

LEDGERS = ("postgresql", "sqlite")
both_ledgers = click.option(
    "--ledger",
    "ledgers",
    type=click.Choice(LEDGERS),
    multiple=True,
    help="May be given twice.  [default: both]",
)


@click.group(cls=Group)
def bench() -> None:
    """Measure how fast this machine runs the engine."""


@bench.command("broker")
@click.option("--quick", is_flag=True, help="A smaller load: one minute instead of six.")
@click.pass_obj
def broker(session: Session, quick: bool) -> Answer:
    """Measure the embedded broker and RabbitMQ, side by side in one run.

    Each runs as a process of its own with fresh data. Where RabbitMQ is not installed the
    embedded broker is measured alone. docs/bench.md defines every figure.
    """
    from botswarm.bench.broker import main
    from botswarm.bench.figures import table

    figures = main(quick=quick, progress=session.progress)
    return Answer(data=figures, text=table(figures))


@bench.command("tasks")
@click.option("--quick", is_flag=True, help="Smaller loads, fewer rounds.")
@click.pass_obj
def tasks(session: Session, quick: bool) -> Answer:
    """Measure our Celery app beside bare Celery with the same guarantees, on both brokers.

    Both: quorum queue, late acks, confirmed publishes, two children with a task each. Ours also
    caps, logs, counts and checks routes. docs/bench.md defines every figure.
    """
    from botswarm.bench.tasks import main, table

    figures = main(quick=quick, progress=session.progress)
    return Answer(data=figures, text=table(figures))


@bench.command("bots")
@click.option(
    "--bots",
    "count",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    help="How many.",
)
@click.pass_obj  # fmt: skip
def bots(session: Session, count: int) -> Answer:
    """Measure how long commands about many bots take, on SQLite and on PostgreSQL.

    Each is a process of its own, its start-up included: import, list, start, pause, edit, delete.
    """
    from botswarm.bench.bots import main, table

    figures = main(bots=count, progress=session.progress)
    return Answer(data=figures, text=table(figures))


@bench.command("feed")
@click.option("--quick", is_flag=True, help="A minute instead of six; figures are rougher.")
@click.option("--without-cryptofeed", is_flag=True, help="Install and measure ours only.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path.home() / ".cache" / "botswarm-bench",
    show_default="~/.cache/botswarm-bench",
    help="Where cryptofeed's own Python environment is kept.",
)
@click.pass_obj
def feed(session: Session, quick: bool, without_cryptofeed: bool, cache: Path) -> Answer:
    """Measure the feed: 2,000 streams on 10 connections, into RabbitMQ and the embedded broker.

    A loopback venue sends 670 and then 20,000 trades a second; what arrives is counted by its
    numbers. Beside it: cryptofeed with its RabbitMQ backend, and bare reading and decoding.
    """
    from botswarm.bench.feed import main, table

    kept = None if without_cryptofeed else cache
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    figures = main(quick=quick, cache=kept, progress=session.progress)
    return Answer(data=figures, text=table(figures))


@bench.command("evaluate")
@click.option(
    "--bots",
    "sizes",
    type=click.IntRange(1, 1_000_000),
    multiple=True,
    help="How many; may be given several times.  [default: 1000 10000 100000]",
)
@click.option("--markets", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--seconds", type=click.IntRange(5, 3600), default=60, show_default=True)
@click.option(
    "--broker",
    "brokers",
    type=click.Choice(["embedded", "rabbitmq"]),
    multiple=True,
    help="May be given twice.  [default: embedded]",
)
@click.option(
    "--ledger", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True
)
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--quick", is_flag=True, help="1,000 bots for ten seconds, without freqtrade.")
@click.option("--without-freqtrade", is_flag=True, help="Install and measure ours only.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path.home() / ".cache" / "botswarm-bench",
    show_default="~/.cache/botswarm-bench",
    help="Where freqtrade's own Python environment is kept.",
)
@click.pass_obj
def evaluate(
    session: Session,
    sizes: tuple[int, ...],
    markets: int,
    seconds: int,
    brokers: tuple[str, ...],
    ledger: str,
    workers: int,
    quick: bool,
    without_freqtrade: bool,
    cache: Path,
) -> Answer:
    """Measure what a swarm of thousands of bots costs, everything running.

    A loopback venue moves every market once a second; the real feed, broker, ledger and workers
    evaluate all bots each time. Beside it: both forms of deciding, and one idle freqtrade.
    """
    from botswarm.bench import evaluate as bench

    if quick:
        sizes, seconds = sizes or (1_000,), min(seconds, 10)
    cache.mkdir(parents=True, exist_ok=True)
    figures = bench.main(
        sizes=sizes or bench.SIZES,
        markets=markets,
        seconds=seconds,
        brokers=brokers or ("embedded",),
        ledger=ledger,
        workers=workers,
        is_quick=quick,
        cache=None if quick or without_freqtrade else cache,
        progress=session.progress,
    )
    return Answer(data=figures, text=bench.table(figures))


@bench.command("orders")
@click.option(
    "--broker",
    "brokers",
    type=click.Choice(["rabbitmq", "embedded"]),
    multiple=True,
    help="May be given twice.  [default: rabbitmq]",
)
@both_ledgers
@click.option("--quick", is_flag=True, help="Fewer orders, and through one worker only.")
@click.pass_obj
def orders(
    session: Session, brokers: tuple[str, ...], ledgers: tuple[str, ...], quick: bool
) -> Answer:
    """Measure the road of an order, from its decision to its fill, with every commit of it.

    Real broker, ledger, workers and beat against the simulated exchange: orders a second by
    workers, how long one takes at 50 a second, and what it costs beside a task that does nothing.
    """
    from botswarm.bench import orders as bench

    figures = bench.main(
        brokers=brokers or ("rabbitmq",),
        ledgers=ledgers or LEDGERS,
        size=bench.QUICK if quick else bench.FULL,
        progress=session.progress,
    )
    return Answer(data=figures, text=bench.table(figures))


@bench.command("gate")
@both_ledgers
@click.option("--quick", is_flag=True, help="A tenth of it.")
@click.pass_obj
def gate(session: Session, ledgers: tuple[str, ...], quick: bool) -> Answer:
    """Measure what the gate adds to an order: reading what stands against it, and judging.

    With the settings alone, with some limits set, and with every kind of limit at every level.
    """
    from botswarm.bench import gate as bench

    figures = bench.main(
        ledgers=ledgers or LEDGERS,
        size=bench.QUICK if quick else bench.FULL,
        progress=session.progress,
    )
    return Answer(data=figures, text=bench.table(figures))


@bench.command("sweep")
@both_ledgers
@click.option("--quick", is_flag=True, help="500 positions, three sweeps.")
@click.pass_obj
def sweep(session: Session, ledgers: tuple[str, ...], quick: bool) -> Answer:
    """Measure a sweep over 10,000 positions in 100 markets that all move, limits and all."""
    from botswarm.bench import sweep as bench

    figures = bench.main(
        ledgers=ledgers or LEDGERS,
        size=bench.QUICK if quick else bench.FULL,
        progress=session.progress,
    )
    return Answer(data=figures, text=bench.table(figures))


@bench.command("metrics")
@click.option("--bots", type=click.IntRange(1, 1_000_000), help="How many.  [default: 10000]")
@click.option("--quick", is_flag=True, help="2,000 bots, few orders: rough figures.")
@click.pass_obj
def watched(session: Session, bots: int | None, quick: bool) -> Answer:
    """Measure what it costs to be watched: scrapes of /metrics, and orders with and without.

    A swarm with many bots is started and each of its processes scraped. Then orders go through a
    worker in turns: with health, metrics and exporter, scraped every 5 s, and without all of it.
    It takes about seven minutes on a quiet machine; docs/bench.md defines every figure.
    """
    from dataclasses import replace

    from botswarm.bench.metrics import QUICK, Size, main, table

    size = QUICK if quick else Size()
    figures = main(
        size=size if bots is None else replace(size, bots=bots), progress=session.progress
    )
    return Answer(data=figures, text=table(figures))
