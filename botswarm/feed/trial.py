"""Connects to a venue once, as the feed would, and measures what comes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from botswarm.domain.market import Channel, Tick, Trade
from botswarm.errors import BotswarmError
from botswarm.exchanges.streams import Declined, MarketData, Stream
from botswarm.feed.budget import Budget
from botswarm.feed.connection import Connection
from botswarm.feed.dialogue import CHANNELS, Ears, Happened
from botswarm.feed.pace import Pace
from botswarm.feed.rules import PoolRules
from botswarm.feed.security import Rejects, SecurityLog

TRIED: tuple[Channel, ...] = ("trade", "quote")
POLL_S = 0.02
ACKS_WITHIN_S = 10.0
QUIET_S = 15.0
PING_RULES_S = 1.0


@dataclass(slots=True, kw_only=True)
class Trial:
    """Times in milliseconds; None where it did not come to it."""

    venue: str
    streams: int = 0
    markets: int = 0
    """How many the venue has."""
    instruments_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    tls: str = ""
    certificate_days: float | None = None
    handshake_ms: float | None = None
    acknowledged_ms: float | None = None
    """From the open connection until every stream was acknowledged, or brought something."""
    served: int = 0
    first_trade_ms: float | None = None
    ping_ms: float | None = None
    frames: int = 0
    messages_per_s: float = 0.0
    ticks: dict[str, int] = field(default_factory=dict)
    """By channel."""
    lag_ms: float | None = None
    """The middle one from the venue's stamp to our receiving: clocks that differ included."""
    malformed: int = 0
    security: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return not self.problems


class Validation:
    def __init__(
        self,
        data: MarketData,
        rules: PoolRules,
        budget: Budget,
        stop: threading.Event | None = None,
        *,
        pace: Pace | None = None,
    ) -> None:
        """``stop``: somebody has seen enough."""
        self._pace = pace
        self._data, self._rules, self._budget = data, rules, budget
        self._stop = threading.Event() if stop is None else stop
        self._lags: list[float] = []
        self._first_trade = 0.0
        self._declined: list[str] = []
        self.trial = Trial(venue=data.name)

    def run(self, symbols: Collection[str], seconds: float) -> Trial:
        trial = self.trial
        if (chosen := self._choose(symbols)) is None:
            return trial
        if (wait_s := self._budget.take()) > 0:
            trial.problems.append(f"no attempt to connect is left for {wait_s:.0f} s")
            return trial
        security = SecurityLog()
        connection = self._connection(chosen, security)
        connection.start()
        try:
            self._watch(connection, chosen, seconds)
        finally:
            connection.stop()
            connection.join(2.0)
            trial.security = security.of(trial.venue)
        return trial

    def _choose(self, symbols: Collection[str]) -> Sequence[Stream] | None:
        trial, began = self.trial, time.monotonic()
        try:
            known = [each.symbol for each in self._data.instruments()]
        except BotswarmError as error:
            trial.problems.append(f"its markets cannot be read: {error}")
            return None
        trial.instruments_ms, trial.markets = _since(began), len(known)
        found = [symbol for symbol in symbols if symbol in known]
        if not found:
            named = ", ".join(symbols) or "none was named"
            trial.problems.append(f"it has none of the markets to try ({named})")
            return None
        chosen = [Stream(symbol, channel) for symbol in found for channel in TRIED]
        trial.streams = len(chosen)
        return chosen

    def _connection(self, streams: Sequence[Stream], security: SecurityLog) -> Connection:
        return Connection(
            f"{self._data.name}-trial",
            self._data,
            streams,
            rules=replace(self._rules, ping_every_s=min(PING_RULES_S, self._rules.ping_every_s)),
            ears=Ears(
                ticks=self._note,
                last_trade=lambda symbol, trade_id: None,
                skipped=lambda symbols: None,
                wants_book=lambda stream: None,
                event=self._hear,
            ),
            security=security,
            rejects=Rejects(security),
            wall_ms=lambda: int(time.time() * 1000),
            timeout_s=self._rules.connect_timeout_s,
            pace=self._pace,
        )

    def _note(self, ticks: Sequence[Tick], at: float) -> None:
        for tick in ticks:
            channel = CHANNELS[type(tick)]
            self.trial.ticks[channel] = self.trial.ticks.get(channel, 0) + 1
            if isinstance(tick, Trade):
                self._first_trade = self._first_trade or at
                self._lags.append(tick.received_ms - tick.exchange_ms)

    def _hear(self, event: Happened) -> None:
        if isinstance(event, Declined):
            self._declined.append(event.reason)

    def _watch(self, connection: Connection, streams: Sequence[Stream], seconds: float) -> None:
        trial = self.trial
        self._wait(
            lambda: connection.opened or connection.has_ended, self._rules.connect_timeout_s + 1
        )
        opened = connection.opened
        if opened is None:
            trial.problems.append(f"no connection: {connection.ended or 'no answer in time'}")
            return
        began = time.monotonic()
        trial.connect_ms, trial.tls_ms = opened.connect_ms, opened.tls_ms
        trial.handshake_ms = opened.handshake_ms
        trial.tls, trial.certificate_days = opened.tls, opened.certificate_days
        wanted = set(streams)
        if self._wait(
            lambda: connection.talk.served >= wanted or connection.has_ended, ACKS_WITHIN_S
        ):
            trial.acknowledged_ms = _since(began)
        self._wait(lambda: connection.has_ended, seconds - (time.monotonic() - began))
        # A market may be quiet for a while; nothing at all for so long is another matter.
        self._wait(lambda: trial.ticks or connection.has_ended, QUIET_S)
        self._conclude(connection, wanted, began)

    def _wait(self, condition: Callable[[], object], limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() >= deadline or self._stop.wait(POLL_S):
                return False
        return True

    def _conclude(self, connection: Connection, wanted: set[Stream], began: float) -> None:
        trial, talk = self.trial, connection.talk
        trial.served, trial.frames, trial.malformed = len(talk.served), talk.frames, talk.malformed
        trial.messages_per_s = talk.frames / max(0.1, time.monotonic() - began)
        trial.ping_ms = connection.pinger.rtt_ms
        if self._first_trade:
            trial.first_trade_ms = (self._first_trade - began) * 1000
        if self._lags:
            trial.lag_ms = sorted(self._lags)[len(self._lags) // 2]
        if connection.ended is not None:
            trial.problems.append(f"the connection ended: {connection.ended}")
        if missing := sorted(wanted - talk.served):
            words = ", ".join(f"{each.symbol} {each.channel}" for each in missing)
            trial.problems.append(f"not served: {words}")
        trial.problems += [f"declined: {reason}" for reason in self._declined]
        if not trial.ticks:
            trial.problems.append("nothing came in that time")
        if trial.malformed:
            trial.problems.append(f"{trial.malformed} frames could not be read")


def _since(began: float) -> float:
    return (time.monotonic() - began) * 1000
