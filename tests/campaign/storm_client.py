"""A process of the campaign of storms: it asks as an order worker does, and notes when it did."""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from botswarm.clock import since_boot_s
from botswarm.config import Secret
from botswarm.domain.order import Order
from botswarm.errors import Unreachable
from botswarm.exchanges.allowance import TooSoon
from botswarm.exchanges.allowances import LIMITS
from botswarm.exchanges.base import Accepted
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.exchanges.board import Board
from botswarm.exchanges.shared_allowance import SharedAllowance
from tests.orders.conftest import an_order

THREADS = 2
SYMBOL = "BTC-USDT"
_SHIFT = struct.Struct("=d")


class Shift:
    """How far all clocks of the campaign have been put forward: eight bytes in a file."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(_SHIFT.pack(0.0))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _SHIFT.size)

    @property
    def seconds(self) -> float:
        value: float = _SHIFT.unpack(self._memory)[0]
        return value

    @seconds.setter
    def seconds(self, value: float) -> None:
        _SHIFT.pack_into(self._memory, 0, value)


class ShiftedClock:
    def __init__(self, shift: Shift) -> None:
        self._shift = shift

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._shift.seconds)

    def monotonic(self) -> float:
        return since_boot_s() + self._shift.seconds


class Told(NamedTuple):
    """A request that was answered with 429 or 418, by the machine's own clock."""

    sent: float
    """When its sender looked for a ban for the last time."""
    known: float
    """From here on every process could know of it."""


class Watched(SharedAllowance):
    """Notes when a request was let through, and when its ban was written down for all."""

    def watch(self) -> list[Told]:
        self.told: list[Told] = []
        self._passed = threading.local()
        return self.told

    def obey(self) -> None:
        # Before it looks: whoever looks after a ban is known must see it. What a thread that is
        # held up right after looking sends, nobody can call back.
        self._passed.at = since_boot_s()
        super().obey()

    def banned(self, seconds: float, reason: str) -> None:
        super().banned(seconds, reason)
        self.told.append(Told(self._passed.at, since_boot_s()))


class Client:
    def __init__(self, folder: Path, url: str, key: str, secret: str) -> None:
        shift = Shift(folder / "shift")
        clock = ShiftedClock(shift)
        board = Board(folder / "board", clock=clock.monotonic, wall=lambda: clock.now().timestamp())
        self.allowance = Watched(
            "simulated", LIMITS["simulated"], board, account="paper", clock=clock
        )
        self.told = self.allowance.watch()
        self.venue = BinanceTrading(
            name="simulated",
            account="paper",
            url=url,
            key=Secret(key),
            secret=Secret(secret),
            clock=clock,
            allowance=self.allowance,
        )
        self.clock = clock
        self.instrument = next(each for each in self.venue.instruments() if each.symbol == SYMBOL)

    def place(self) -> Order:
        order = an_order(quantity=Decimal("0.001"))
        answer = self.venue.send(self.venue.sign(order, self.instrument, self.clock.now()))
        assert isinstance(answer, Accepted), answer
        return order

    def cancel(self, order: Order) -> str:
        """Nothing where it was cancelled, else the venue's words or ours."""
        answer = self.venue.cancel(order)
        return "" if isinstance(answer, Accepted) else str(answer)

    def press(self) -> int:
        """Ask until the allowance says no; how often it went."""
        asked = 0
        while True:
            try:
                self.venue.open_orders()
                asked += 1
            except TooSoon:
                return asked

    def insist(self, order: Order, seconds: float) -> None:
        """Everything a worker asks, again and again, whatever is answered."""
        until = time.monotonic() + seconds
        asks: list[Callable[[], object]] = [
            lambda: self.venue.cancel(order),
            lambda: self.venue.query(order),
            lambda: self.venue.open_orders(SYMBOL),
            self.place,
            self.venue.server_time,
        ]

        def ask(number: int) -> None:
            while time.monotonic() < until:
                number += 1
                try:
                    asks[number % len(asks)]()
                except (Unreachable, AssertionError):
                    time.sleep(0.002)

        threads = [threading.Thread(target=ask, args=(each,)) for each in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def serve(pipe: Connection, folder: Path, url: str, key: str, secret: str) -> None:
    """Does as it is told until the pipe ends."""
    client = Client(folder, url, key, secret)
    orders: list[Order] = []
    pipe.send("ready")
    while True:
        try:
            word, seconds = pipe.recv()
        except EOFError:
            return
        match word:
            case "clear":
                client.venue.cancel_all(SYMBOL)
                pipe.send(0)
            case "place":
                orders = [client.place(), client.place()]
                pipe.send(0)
            case "press":
                pipe.send(client.press())
            case "cancel":
                pipe.send(client.cancel(orders.pop()))
            case "insist":
                client.insist(orders[0], seconds)
                pipe.send(0)
            case "told":
                pipe.send([tuple(each) for each in client.told])
                client.told.clear()
