"""Frames between a venue, files and the broker: record and replay."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Command
from botswarm.cli.failures import CheckFailed
from botswarm.cli.moments import Duration
from botswarm.cli.session import Answer, Session
from botswarm.cli.stdout import lines_output
from botswarm.clock import SystemClock

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.exchanges.streams import MarketData, Stream
    from botswarm.feed.normalising import Normaliser
    from botswarm.feed.recorder import Recorder
    from botswarm.feed.recording import Line

CHANNELS = ("trade", "quote", "candle", "book", "status")
LOOK_S = 0.1


# --- record -----------------------------------------------------------------------------------


@click.command(cls=Command)
@click.option("--venue", metavar="VENUE", help="Default: the venue that orders go to.")
@click.option("--market", "markets", multiple=True, metavar="BASE-QUOTE", help="May be repeated.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    type=click.Choice(CHANNELS),
    help="May be repeated; trade and quote when none is named.",
)
@click.option(
    "--for",
    "limit_s",
    type=Duration(),
    default=60.0,
    show_default="60s",
    help="How long, such as 90s, 5m or 2h; ends earlier by Ctrl-C.",
)
@click.option("--rotate-mb", type=click.IntRange(1, 100_000), default=256, show_default=True,
              help="Begin the next file after so many MB.")  # fmt: skip
@click.option("--ticks/--no-ticks", "with_ticks", default=True, help="Also write the ticks.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def record(
    session: Session,
    /,
    venue: str | None,
    markets: tuple[str, ...],
    channels: tuple[str, ...],
    limit_s: float,
    rotate_mb: int,
    with_ticks: bool,
    file: Path,
) -> Answer:
    """Write down what a venue sends: frames into FILE, ticks beside it.

    FILE.gz gets the frames as they came, with their time and connection, FILE.ticks.gz the ticks
    they became. Both are compressed, rotated by size, and readable up to the last second if this
    is killed. It connects by itself, within the venue's limits; no feed needs to run. Exits with
    3 when nothing came.
    """
    from botswarm import logs
    from botswarm.exchanges import registry
    from botswarm.feed.recorder import Recorder

    settings = session.settings()
    name = venue or registry.venue_name(settings)
    data = registry.market_data(settings, name)
    symbols = [market.upper() for market in markets] or registry.fed_markets(settings, name)
    streams = _streams(data, symbols, channels or ("trade", "quote"))
    logs.configure(settings, at_least=_loudness(session))
    recorder = Recorder(
        file,
        venue=name,
        begun_ms=wall_ms(),
        with_ticks=with_ticks,
        rotate_bytes=rotate_mb * 1_000_000,
    )
    began = time.monotonic()
    try:
        opened = _record(settings, data, streams, recorder, limit_s)
    finally:
        recorder.close()
    return _recorded(name, recorder, opened, time.monotonic() - began)


def _loudness(session: Session) -> int:
    import logging

    return logging.DEBUG if session.verbose else logging.WARNING


def _streams(data: MarketData, markets: Sequence[str], channels: Sequence[str]) -> Sequence[Stream]:
    """Raises NotFound for a market the venue does not have."""
    from botswarm.errors import NotFound
    from botswarm.exchanges.streams import Stream

    known = {each.symbol for each in data.instruments()}
    for market in markets:
        if market not in known:
            raise NotFound(
                f"{data.name} has no market {market}", cure="write it as BASE-QUOTE: BTC-USDT"
            )
    carried = [channel for channel in CHANNELS if channel in channels]
    if not set(carried) & data.channels:
        raise NotFound(
            f"{data.name} streams no {' or '.join(carried)}",
            cure=f"name one of these: {', '.join(sorted(data.channels))}",
        )
    return [
        Stream(market, channel)
        for market in markets
        for channel in carried
        if channel in data.channels
    ]


def _record(
    settings: Settings,
    data: MarketData,
    streams: Sequence[Stream],
    recorder: Recorder,
    limit_s: float,
) -> int:
    from botswarm.feed.pool import Pool
    from botswarm.feed.rules import PoolRules

    pool = Pool(
        data,
        recorder,
        PoolRules.of(settings),
        wall_ms=wall_ms,
        # The feed's own: together they stay within what the venue allows.
        attempts_file=settings.state_dir / f"feed-attempts-{data.name}.txt",
        tap=recorder.tap,
    )
    pool.want(streams)
    pool.start()
    try:
        _wait(limit_s, lambda: bool(recorder.trouble))
    finally:
        pool.stop()
    return pool.opened


def _wait(limit_s: float, is_over: Callable[[], bool]) -> None:
    """Until the time is over, or somebody asks to end."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    deadline = time.monotonic() + limit_s
    try:
        while not stop.wait(LOOK_S) and time.monotonic() < deadline and not is_over():
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _recorded(venue: str, recorder: Recorder, opened: int, seconds: float) -> Answer:
    frames, failure, warnings = recorder.frames, None, list[str]()
    paths = [str(path) for file in recorder.files for path in file.paths]
    if recorder.trouble:
        failure = CheckFailed(recorder.trouble, cure="make room, then record again")
    elif not frames.lines:
        failure = CheckFailed(
            f"{venue} sent nothing in {seconds:.0f} s",
            cure=f"see whether it can be reached: botswarm feed validate --venue {venue}",
        )
    if recorder.lost:
        warnings.append(f"{recorder.lost} lines were not written: the disk is too slow or full")
    ticks = ", ".join(f"{name} {count}" for name, count in sorted(recorder.counts.items()))
    written = sum(file.bytes_written for file in recorder.files)
    text = (
        f"{frames.lines} frames in {seconds:.0f} s over {opened} connections; ticks {ticks or 0}; "
        f"{written} bytes\n" + "\n".join(paths)
    )
    data = {
        "venue": venue,
        "files": paths,
        "frames": frames.lines,
        "ticks": dict(recorder.counts),
        "bytes": written,
        "lost": recorder.lost,
        "connections_opened": opened,
        "interruptions": recorder.interruptions,
        "seconds": round(seconds, 1),
    }
    return Answer(data=data, text=text, warnings=warnings, failure=failure)


# --- replay -----------------------------------------------------------------------------------


@click.command(cls=Command)
@click.option("--venue", metavar="VENUE", help="Whose frames they are, where FILE does not say.")
@click.option("--as", "name", metavar="NAME", help="The venue's name on the exchange; default: "
              "replay-VENUE, so that nothing live is mixed with it.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(min=0.0), default=1.0, show_default=True,
              help="So many times as fast as it was; 0 is as fast as possible.")  # fmt: skip
@click.option("--to", "target", type=click.Choice(["broker", "stdout"]), default="broker",
              show_default=True, help="The exchange ticks, or lines of JSON.")  # fmt: skip
@click.argument("file", metavar="FILE")
@click.pass_obj
def replay(
    session: Session, venue: str | None, name: str | None, speed: float, target: str, file: str
) -> Answer | None:
    """Play recorded frames again: into the exchange ticks, or as lines on standard output.

    FILE is what feed record wrote, or frames with or without their times; - is standard input.
    The ticks keep their times and are published under the venue's name replay-VENUE, in the
    batches of docs/ticks.md, marked with the header "replay". Digests are not made: no bot
    decides on what is played.
    """
    from botswarm.exchanges.registry import recorded
    from botswarm.feed import recording
    from botswarm.feed.normalising import Normaliser
    from botswarm.feed.replaying import Rhythm, replay_name

    settings = session.settings()
    stdin: Any = sys.stdin.buffer
    with recording.opened(file, stdin) as opened:
        lines = recording.lines(opened)
        first = next(lines, None)
        whose = venue or recording.venue_of(b"" if first is None else first.frame)
        if first is not None and first.frame.startswith(b'{"venue":'):
            raise click.UsageError("FILE has ticks: replay the frames that they came from")
        if whose is None:
            raise click.UsageError("FILE does not say whose frames they are: add --venue VENUE")
        normaliser = Normaliser(recorded(settings, whose))
        rhythm = Rhythm(speed)
        played = _with_first(first, lines, normaliser)
        if target == "stdout":
            _print(normaliser, rhythm, played, name)
            _account(session, whose, normaliser)
            return None
        return _publish(session, normaliser, rhythm, played, whose, name or replay_name(whose))


def _with_first(
    first: Line | None, lines: Iterator[Line], normaliser: Normaliser
) -> Iterator[Line]:
    from botswarm.feed.recording import Truncated

    if first is None:
        return
    yield first
    try:
        yield from lines
    except Truncated as error:
        normaliser.account.drop("torn_file", normaliser.account.lines + 1, error.cause)


def _print(normaliser: Normaliser, rhythm: Any, played: Iterator[Line], name: str | None) -> None:
    from botswarm.feed.ndjson import line

    with lines_output() as output:
        for tick in normaliser.ticks(rhythm.pace(played, output.flush)):
            output.write(line(tick if name is None else replace(tick, venue=name)))


def _account(session: Session, venue: str, normaliser: Normaliser) -> None:
    from botswarm.cli.feed_files import say

    say(session, venue, normaliser.account)


def _publish(
    session: Session,
    normaliser: Normaliser,
    rhythm: Any,
    played: Iterator[Line],
    whose: str,
    name: str,
) -> Answer:
    from botswarm.cli.amqp import broker_of, channel
    from botswarm.cli.feed_files import summary
    from botswarm.feed.broadcast import Broadcast
    from botswarm.feed.replaying import Gathering

    url, _, hint = broker_of(session)
    began = time.monotonic()
    with channel(url, start_hint=hint) as open_channel:
        broadcast = Broadcast(open_channel)
        rhythm.sleep = broadcast.rest
        gathering = Gathering(name, broadcast.send)
        for tick in normaliser.ticks(_received_now(rhythm.pace(played, gathering.flush))):
            gathering.add(tick)
        gathering.flush()
        broadcast.finish()
    ticks = ", ".join(f"{kind} {count}" for kind, count in sorted(gathering.counts.items()))
    seconds = time.monotonic() - began
    data = {
        **summary(whose, normaliser.account),
        "as": name,
        "published": broadcast.confirmed,
        "refused": broadcast.refused,
        "changes_left_out": gathering.changes,
        "seconds": round(seconds, 3),
    }
    text = (
        f"{name}: ticks {ticks or 0} in {broadcast.confirmed} messages, {seconds:.1f} s; "
        f"dropped {sum(each.count for each in normaliser.account.dropped.values())} frames, "
        f"gaps {normaliser.account.gaps}"
    )
    warnings = []
    if gathering.changes:
        warnings.append(f"{gathering.changes} changes of books that were never whole: left out")
    if broadcast.refused:
        warnings.append(
            f"the broker refused {broadcast.refused} messages: a reader's queue is full"
        )
    if not rhythm.is_timed and rhythm.speed > 0:
        warnings.append("the frames do not say when they came: played as fast as possible")
    return Answer(data=data, text=text, warnings=warnings)


def _received_now(lines: Iterator[Line]) -> Iterator[Line]:
    """A frame whose time nobody wrote down is received as it is played."""
    for line in lines:
        yield line if line.received_ms is not None else replace(line, received_ms=wall_ms())


def wall_ms() -> int:
    return int(SystemClock().now().timestamp() * 1000)
