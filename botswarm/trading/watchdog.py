"""Cancel on disconnect: when we have lost our own ledger or broker, no order rests unwatched."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from botswarm.clock import Clock
from botswarm.errors import BotswarmError
from botswarm.exchanges.base import TradingVenue

logger = logging.getLogger(__name__)

RENEWALS_PER_TIME = 3
"""The venue's own switch is asked for this often within its time: two may get lost."""


@dataclass(frozen=True, slots=True)
class Charge:
    """An account to watch over, and the markets where it has or may soon have open orders."""

    venue: TradingVenue
    markets: frozenset[str]
    has_open: bool = True

    @property
    def name(self) -> str:
        return f"{self.venue.name}:{self.venue.account}"


def cancelled(charge: Charge, symbol: str, *, is_proven: bool = False) -> bool:
    """Everything open there; ``is_proven`` where the venue is to show that nothing is left, as an
    order that was on its way may have come since. What goes wrong at one venue, were it a defect,
    is told, and leaves nothing open at the others.
    """
    try:
        charge.venue.cancel_all(symbol)
        left = len(charge.venue.open_orders(symbol)) if is_proven else 0
    except BotswarmError as error:
        logger.error("not cancelled yet: %s %s: %s", charge.name, symbol, error)
        return False
    except Exception:
        logger.exception("not cancelled yet: %s %s: a defect", charge.name, symbol)
        return False
    if left:
        logger.error("%s %s still has %d open orders", charge.name, symbol, left)
        return False
    logger.critical("cancelled everything open in %s %s", charge.name, symbol)
    return True


@dataclass(slots=True)
class Watchdog:
    """Of one process, which may have one thread that says it is well, and another that looks.

    It knows what it would cancel from memory: when it has to, there is no ledger to ask.
    """

    limit_s: float
    clock: Clock
    charges: Sequence[Charge] = ()
    _well_at: float = field(init=False)
    _left: set[tuple[str, str]] | None = None
    """What is still to be cancelled, from when the time had run out; None while all is well."""
    _held_at: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._well_at = self.clock.monotonic()

    def well(self, charges: Sequence[Charge], began: float) -> None:
        """Ledger and broker answered, asked from ``began`` on by the monotonic clock."""
        with self._lock:
            self._well_at, self.charges = began, charges
            if self._left is not None:
                logger.warning("ledger and broker are back: orders may rest again")
                self._left = None

    def look(self) -> None:
        """To be called again and again, also while nothing answers."""
        with self._lock:
            silent_s = self.clock.monotonic() - self._well_at
            charges, is_over = self.charges, silent_s >= self.limit_s
            if is_over and self._left is None:
                self._left = {(each.name, symbol) for each in charges for symbol in each.markets}
                logger.critical(
                    "ledger or broker has been away for %.0f s: cancelling everything open in %s",
                    silent_s,
                    ", ".join(sorted(f"{name} {symbol}" for name, symbol in self._left)) or "-",
                )
        for charge in charges:
            if is_over:
                self._cancel(charge)
            elif silent_s < self.limit_s / 2:
                self._hold(charge)

    def _cancel(self, charge: Charge) -> None:
        for symbol in sorted(charge.markets):
            key = charge.name, symbol
            if self._left is None or key not in self._left:
                continue
            if cancelled(charge, symbol):
                with self._lock:
                    if self._left is not None:
                        self._left.discard(key)

    def _hold(self, charge: Charge) -> None:
        """Where the venue has a switch of its own, it also works when this process is gone."""
        longest = charge.venue.rules.dead_man_max_s
        if longest is None or math.isinf(self.limit_s):
            return
        timeout_s = min(self.limit_s, longest)
        now, held_at = self.clock.monotonic(), self._held_at.get(charge.name)
        if not charge.has_open:
            if held_at is not None and self._told(charge, 0):
                del self._held_at[charge.name]
            return
        is_due = held_at is None or now - held_at >= timeout_s / RENEWALS_PER_TIME
        if charge.has_open and is_due and self._told(charge, timeout_s):
            self._held_at[charge.name] = now

    def _told(self, charge: Charge, timeout_s: float) -> bool:
        try:
            charge.venue.hold_dead_man(timeout_s)
        except BotswarmError as error:
            logger.warning("%s was not asked to watch over our orders: %s", charge.name, error)
            return False
        return True


def watch(
    dog: Watchdog,
    probe: Callable[[], Sequence[Charge]],
    stop: threading.Event,
    *,
    every_s: float,
    brake: Callable[[Sequence[Charge]], None] = lambda charges: None,
) -> None:
    """Until ``stop``. ``probe`` raises where ledger or broker do not answer, and may hang.

    ``brake`` is given what there is to watch over at every look, whether they answer or not.
    """

    def ask() -> None:
        while not stop.is_set():
            began = dog.clock.monotonic()
            try:
                dog.well(probe(), began)
            except (BotswarmError, OSError) as error:
                logger.warning("ledger or broker does not answer: %s", error)
            except Exception:
                logger.exception("the watchdog cannot look: a defect")
            stop.wait(every_s)

    threading.Thread(target=ask, name="watchdog", daemon=True).start()
    looks: Sequence[Callable[[], None]] = (lambda: brake(dog.charges), dog.look)
    while not stop.is_set():
        for look in looks:
            try:
                look()
            except Exception:
                logger.exception("the watchdog stumbled: a defect; it goes on")
        stop.wait(min(1.0, every_s))
