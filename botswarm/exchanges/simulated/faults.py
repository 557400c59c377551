"""Misbehaviour on demand: what the exchange has been told to do wrong, how often, and has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from botswarm.exchanges.simulated.refusal import Refusal

ACTIONS: Final = ("place", "cancel", "query", "any")
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
INSTANT_FAULTS: Final[Mapping[str, str]] = {
    "disconnect_streams": "cut every market-data connection now",
    "disconnect_users": "cut every WebSocket API connection now",
    "shutdown": "announce serverShutdown, then close every WebSocket",
    "feed_outage": "say nothing on market streams for the given seconds",
    "clock_offset": "the exchange's clock is the given seconds off, until told otherwise",
}
KINDS: Final = {**REQUEST_FAULTS, **ORDER_FAULTS, **INSTANT_FAULTS}
SECONDS_MAX: Final = 3_600.0
TIMES_MAX: Final = 1_000_000


@dataclass(slots=True)
class Fault:
    kind: str
    on: str
    left: int
    seconds: float
    fired: int = 0

    def described(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "on": self.on,
            "left": self.left,
            "seconds": self.seconds,
            "fired": self.fired,
        }


class Faults:
    def __init__(self) -> None:
        self.armed: list[Fault] = []
        self.fired: dict[str, int] = {}

    def arm(self, wish: Mapping[str, Any]) -> Fault:
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
        if kind in INSTANT_FAULTS:
            fault.left = 0
            self._count(fault)
        else:
            self.armed.append(fault)
        return fault

    def take(self, kinds: Mapping[str, str], action: str) -> Fault | None:
        """The oldest fault that concerns this action, used up by one."""
        for fault in self.armed:
            if fault.kind in kinds and fault.on in (action, "any"):
                fault.left -= 1
                self._count(fault)
                if not fault.left:
                    self.armed.remove(fault)
                return fault
        return None

    def take_kind(self, kind: str) -> Fault | None:
        for fault in self.armed:
            if fault.kind == kind:
                return self.take({kind: ""}, fault.on)
        return None

    def clear(self) -> None:
        self.armed.clear()

    def _count(self, fault: Fault) -> None:
        fault.fired += 1
        self.fired[fault.kind] = self.fired.get(fault.kind, 0) + 1

    def described(self) -> dict[str, object]:
        return {"armed": [fault.described() for fault in self.armed], "fired": dict(self.fired)}
