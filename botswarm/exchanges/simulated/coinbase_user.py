"""Coinbase Advanced's channel about an account: orders as they stand, in counted frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from botswarm.exchanges.simulated.coinbase_guard import Guard
from botswarm.exchanges.simulated.coinbase_words import ACCOUNT, VENUE, Words
from botswarm.exchanges.simulated.exchange import Ended, Fact, Opened, Traded
from botswarm.exchanges.simulated.feeds import Wrong, made_up_id, moment
from botswarm.exchanges.simulated.orders import VenueOrder
from botswarm.exchanges.simulated.service import Service
from botswarm.exchanges.simulated.streams import Line
from botswarm.exchanges.simulated.websocket import WebSocket

SNAPSHOT_MAX: Final = 50


class UserLine(Line):
    venue = VENUE

    def __init__(self, socket: WebSocket, peer: str, now_s: float) -> None:
        super().__init__(socket, now_s)
        self.peer = peer
        self.sequence = -1
        self.beats = 0
        self.channels: set[str] = set()

    def tell(self, channel: str, events: Sequence[object], now_ms: int) -> None:
        self.sequence += 1
        frame = {
            "channel": channel,
            "client_id": "",
            "timestamp": moment(now_ms, 9),
            "sequence_num": self.sequence,
            "events": events,
        }
        self.socket.send_text(json.dumps(frame, separators=(",", ":")))


class UserChannel:
    def __init__(self, service: Service, guard: Guard, words: Words) -> None:
        self.service = service
        self.exchange = service.exchange
        self.guard = guard
        self.words = words
        self.lines: set[UserLine] = set()

    def receive(self, line: UserLine, text: str) -> None:
        now_ms = self.service.now_ms()
        try:
            said = json.loads(text)
            channel = said["channel"]
            if said["type"] not in ("subscribe", "unsubscribe"):
                raise Wrong("failure to parse the message")
            if channel not in ("user", "heartbeats"):
                raise Wrong(f"channel {channel} is not known")
            if channel == "user":
                self.guard.admit(str(said.get("jwt") or ""), now_ms)
        except Wrong as why:
            words = "authentication failure" if why.status == 401 else why.words
            line.socket.send_text(json.dumps({"type": "error", "message": words}))
            return
        except (ValueError, KeyError, TypeError):
            words = "failure to parse the message"
            line.socket.send_text(json.dumps({"type": "error", "message": words}))
            return
        if said["type"] == "unsubscribe":
            line.channels.discard(channel)
        else:
            line.channels.add(channel)
            if channel == "user":
                self._tell_snapshot(line, now_ms)
        told = {each: [made_up_id(each, ACCOUNT)] for each in sorted(line.channels)}
        line.tell("subscriptions", [{"subscriptions": told}], now_ms)

    def _tell_snapshot(self, line: UserLine, now_ms: int) -> None:
        orders = self.exchange.open_orders(ACCOUNT)[-SNAPSHOT_MAX:]
        rows = [self.words.told(each, "OPEN", each.filled, each.filled_quote) for each in orders]
        line.tell("user", [{"type": "snapshot", "orders": rows}], now_ms)

    def publish(self, facts: Sequence[Fact], now_ms: int) -> None:
        for fact in facts:
            if isinstance(fact, Traded):
                for share in fact.shares:
                    if share.order.account == ACCOUNT:
                        is_open = share.status.is_open
                        status = "OPEN" if is_open else "FILLED"
                        self._tell(share.order, status, share.filled, share.filled_quote, now_ms)
            elif fact.order.account == ACCOUNT:
                order = fact.order
                if isinstance(fact, Opened):
                    self._tell(order, "PENDING", Decimal(0), Decimal(0), now_ms)
                elif isinstance(fact, Ended):
                    self._tell(order, "CANCELLED", order.filled, order.filled_quote, now_ms)

    def _tell(
        self, order: VenueOrder, status: str, filled: Decimal, value: Decimal, now_ms: int
    ) -> None:
        """Frames are counted, lost ones too."""
        lost = self.service.faults.take_kind("lose_event", VENUE) is not None
        again = not lost and self.service.faults.take_kind("repeat_event", VENUE) is not None
        event = {"type": "update", "orders": [self.words.told(order, status, filled, value)]}
        for line in self.lines:
            if "user" not in line.channels:
                continue
            if lost:
                line.sequence += 1
                continue
            for _ in range(2 if again else 1):
                line.tell("user", [event], now_ms)

    def on_second(self, now_ms: int) -> None:
        at = datetime.fromtimestamp(now_ms // 1000, UTC)
        words = f"{at:%Y-%m-%d %H:%M:%S}.{now_ms % 1000:03d}000000+00:00"
        for line in self.lines:
            if "heartbeats" in line.channels and line.sends_pings:
                line.beats += 1
                event = {"current_time": words, "heartbeat_counter": line.beats}
                line.tell("heartbeats", [event], now_ms)
