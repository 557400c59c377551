"""Misbehaviour on demand: what the exchange has been told to do wrong, how often, and has done."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botswarm.exchanges.simulated.refusal import Refusal

ACTIONS: Final = ("place", "cancel", "query", "any")
VENUES: Final = ("binance", "coinbase", "coinbase-exchange", "kraken")
"""Whose protocols are spoken; a fault may be for one of them, or for ``any``."""
CHANNELS: Final = ("trade", "quote", "candle", "book")
REQUEST_FAULTS: Final[Mapping[str, str]] = {
    "drop_request": "close the connection before anything is done",
    "drop_reply": "do it, then close the connection instead of answering",
    "truncate_reply": "do it, then send half the answer and close",
    "garbage_reply": "do it, then answer 200 with a page of HTML",
    "timeout_executed": "do it, then answer -1007",
    "timeout_not_executed": "answer -1007 and do nothing",
    "error_executed": "do it, then answer 503",
    "error_not_executed": "answer 503 and do nothing",
    "hold": "wait the given seconds, then check the time window again and do it",
    "slow": "do it, then wait the given seconds before answering",
    "twice": "do it, then do the same bytes once more and answer the first time's answer",
}
ORDER_FAULTS: Final[Mapping[str, str]] = {
    "query_lag": "the next orders are not found by queries for the given seconds",
    "lose_event": "the next events of user data are not sent",
    "repeat_event": "the next events of user data are sent twice",
}
FRAME_FAULTS: Final[Mapping[str, str]] = {
    "withhold": "the next frames of the channel are not sent: a gap",
    "repeat": "the next frames of the channel are sent twice",
    "reorder": "the next frame of the channel is sent after the one that follows it",
    "price_spike": "the next frame tells ten times the price",
    "price_zero": "the next frame tells a price of zero",
    "price_negative": "the next frame tells a price below zero",
    "price_nan": "the next frame tells a price that is no number",
    "price_huge": "the next frame tells a price of 1e400",
}
SHAPE_FAULTS: Final[Mapping[str, str]] = {
    "crossed_quote": "the next best bid stands above the ask",
    "crossed_book": "the next change of the book puts a bid above the asks",
    "bad_checksum": "the next change of Kraken's book carries a wrong checksum",
    "stale_snapshot": "the next snapshot of the book is some seconds old",
}
CONNECTION_FAULTS: Final[Mapping[str, str]] = {
    "disconnect_streams": "cut market-data connections now",
    "shutdown": "announce serverShutdown, then close the connections (after the given seconds)",
    "half_open": "say nothing more on the connections and hear nothing, but keep them",
    "no_pong": "leave the clients' pings on the connections unanswered from now on",
    "no_ping": "send no pings or heartbeats on the connections from now on",
    "trickle": "send on the connections a few bytes at a time for the given seconds",
    "garbage_frame": "send JSON that is none, now",
    "text_frame": "send a sentence in plain English, now",
    "binary_frame": "send a binary frame, now",
    "deep_frame": "send JSON nested 100,000 deep, now",
    "oversized_frame": "send a frame of four megabytes, now",
}
INSTANT_FAULTS: Final[Mapping[str, str]] = {
    **CONNECTION_FAULTS,
    "disconnect_users": "cut every WebSocket API connection now",
    "feed_outage": "say nothing on market streams for the given seconds",
    "clock_offset": "the exchange's clock is the given seconds off, until told otherwise",
    "outage": "cut everything of the venue's market data and let nobody in for the given seconds",
    "limit_connects": "answer 429 to every attempt to connect for the given seconds",
    "too_many": "answer 429 to every request of Binance's REST and WebSocket API for the seconds",
    "banned": "answer 418 to every request of Binance's REST and WebSocket API for the seconds",
    "lifetime": "connections live for the given seconds from now on",
    "random_streams": "for the given seconds do such things to streams at random, by seed",
}
KINDS: Final = {
    **REQUEST_FAULTS,
    **ORDER_FAULTS,
    **FRAME_FAULTS,
    **SHAPE_FAULTS,
    **INSTANT_FAULTS,
}
SECONDS_MAX: Final = 86_400.0
TIMES_MAX: Final = 1_000_000


@dataclass(slots=True)
class Fault:
    kind: str
    on: str
    left: int
    seconds: float
    fired: int = 0
    venue: str = "any"
    symbol: str = "any"
    channel: str = ""
    share: float = 1.0
    """Of the connections it concerns."""
    peer: str = "any"
    """Only connections that come from this address."""
    seed: int = 1

    def described(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "on": self.on,
            "left": self.left,
            "seconds": self.seconds,
            "fired": self.fired,
            "venue": self.venue,
            "symbol": self.symbol,
            "channel": self.channel,
        }

    def concerns(self, venue: str, symbol: str, channel: str) -> bool:
        return (
            self.venue in (venue, "any")
            and self.symbol in (symbol, "any")
            and self.channel == channel
        )


class Faults:
    def __init__(self) -> None:
        self.armed: list[Fault] = []
        self.fired: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        """How often Binance's doors said no, by the code they said it with."""

    def arm(self, wish: Mapping[str, Any]) -> Fault:
        fault = _read(wish)
        if fault.kind in INSTANT_FAULTS:
            fault.left = 0
            self._count(fault)
        else:
            self.armed.append(fault)
        return fault

    def take(self, kinds: Mapping[str, str], action: str, venue: str = "any") -> Fault | None:
        """The oldest fault that concerns this action, used up by one."""
        for fault in self.armed:
            concerns = venue == "any" or fault.venue in (venue, "any")
            if concerns and fault.kind in kinds and fault.on in (action, "any"):
                return self._used(fault)
        return None

    def take_kind(self, kind: str, venue: str = "any") -> Fault | None:
        for fault in self.armed:
            if fault.kind == kind and (venue == "any" or fault.venue in (venue, "any")):
                return self._used(fault)
        return None

    def take_frame(
        self, venue: str, symbol: str, channel: str, kinds: Collection[str] = FRAME_FAULTS
    ) -> Fault | None:
        for fault in self.armed:
            if fault.kind in kinds and fault.concerns(venue, symbol, channel):
                return self._used(fault)
        return None

    def clear(self) -> None:
        self.armed.clear()

    def _used(self, fault: Fault) -> Fault:
        fault.left -= 1
        self._count(fault)
        if not fault.left:
            self.armed.remove(fault)
        return fault

    def _count(self, fault: Fault) -> None:
        fault.fired += 1
        self.fired[fault.kind] = self.fired.get(fault.kind, 0) + 1

    def described(self) -> dict[str, object]:
        return {
            "armed": [fault.described() for fault in self.armed],
            "fired": dict(self.fired),
            "refused": dict(self.refused),
        }

    def note_refused(self, code: int) -> None:
        self.refused[str(code)] = self.refused.get(str(code), 0) + 1


def _read(wish: Mapping[str, Any]) -> Fault:
    kind, on = wish.get("kind"), wish.get("on", "place")
    times, seconds = wish.get("times", 1), wish.get("seconds", 0)
    if kind not in KINDS:
        raise Refusal(-1130, f"kind is one of: {', '.join(KINDS)}")
    if on not in ACTIONS:
        raise Refusal(-1130, f"on is one of: {', '.join(ACTIONS)}")
    if type(times) is not int or not 1 <= times <= TIMES_MAX:
        raise Refusal(-1130, f"times is a whole number from 1 to {TIMES_MAX}")
    if type(seconds) not in (int, float) or not -SECONDS_MAX <= seconds <= SECONDS_MAX:
        raise Refusal(-1130, f"seconds is a number up to {SECONDS_MAX:.0f}")
    if seconds < 0 and kind != "clock_offset":
        raise Refusal(-1130, "seconds may be negative for clock_offset only")
    fault = Fault(str(kind), str(on), times, float(seconds))
    _aim(fault, wish)
    return fault


def _aim(fault: Fault, wish: Mapping[str, Any]) -> None:
    """At which streams; what is not said is any, and of frames those that fit the fault."""
    usual = {"crossed_quote": "quote"} | dict.fromkeys(
        set(SHAPE_FAULTS) - {"crossed_quote"}, "book"
    )
    fault.venue = wish.get("venue", "any")
    if fault.venue not in (*VENUES, "any"):
        raise Refusal(-1130, f"venue is any or one of: {', '.join(VENUES)}")
    fault.channel = wish.get("channel", usual.get(fault.kind, "trade"))
    if fault.channel not in CHANNELS:
        raise Refusal(-1130, f"channel is one of: {', '.join(CHANNELS)}")
    fault.symbol, fault.peer = str(wish.get("symbol", "any")), str(wish.get("peer", "any"))
    fault.share = wish.get("share", 1.0)
    if type(fault.share) not in (int, float) or not 0 < fault.share <= 1:
        raise Refusal(-1130, "share is above 0 and at most 1")
    fault.seed = wish.get("seed", 1)
    if type(fault.seed) is not int:
        raise Refusal(-1130, "seed is a whole number")
