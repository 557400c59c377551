"""One history: intents, workers, a sweeper and a venue, from the first message to the last fill."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from botswarm.chaos.simulation.links import LedgerLink, Outcome, Trouble, VenueLink, Weather
from botswarm.chaos.simulation.oracle import Oracle, Violation
from botswarm.chaos.simulation.world import START, Process, World
from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce
from botswarm.domain.permission import TradingState
from botswarm.errors import BotswarmError
from botswarm.risk.limits import Limits
from botswarm.testing.books import FakeBooks
from botswarm.testing.venue import Accepting, FakeVenue, Fate, Semantics
from botswarm.trading import executor
from botswarm.trading.settle import Watch, cancel, settle

MARKET = Instrument(
    venue="simulated",
    symbol="BTC-USDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.0001"),
    quantity_min=Decimal("0.0001"),
    quantity_max=Decimal(100),
    notional_min=Decimal(5),
)
LIMITS = Limits(
    order_notional_max=Decimal(500),
    open_notional_max=Decimal(2000),
    position_notional_max=Decimal(100_000),
    open_orders_max=100,
    orders_per_minute_max=10_000,
    daily_loss_max=Decimal(500),
    signal_age_max_s=36_000,
)
SWEEP_EVERY_S = 5.0
SETTLE_EVERY_S = 1.0
HEALED_WITHIN_S = 240.0
"""Fences, two empty rounds and slow questions take most of it; nobody has to do anything."""


def fair_weather() -> Weather:
    return Weather(
        outcome=lambda: Outcome.ANSWERED,
        trouble=lambda what: Trouble.NONE,
        fate=lambda: Fate.FILLS,
        delay_s=lambda: 0.001,
        lag_s=lambda: 0.0,
        hold_s=lambda low, high: low,
    )


@dataclass(slots=True)
class Result:
    violations: Sequence[Violation]
    intents: int
    executed: int
    attempts: int
    deaths: int
    refused_late: int
    steps: int
    ended_at_s: float


@dataclass(slots=True)
class Play:
    """The stage: what is replaced here for a test is replaced for all processes."""

    seed: int
    semantics: Semantics
    books: FakeBooks = field(default_factory=lambda: FakeBooks([MARKET]))
    weather: Weather = field(default_factory=fair_weather)
    limits: Limits = LIMITS
    on_death: Callable[[], object] = lambda: None
    chance: random.Random = field(init=False)
    world: World = field(init=False)
    venue: FakeVenue = field(init=False)
    oracle: Oracle = field(init=False)
    deaths: int = 0
    is_healed: bool = False
    _messages: deque[str] = field(default_factory=deque)
    _idle: deque[Process] = field(default_factory=deque)
    _alive: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - the same history again is the point
        self.world = World(self.chance)
        self.venue = FakeVenue(self.world.clock, [MARKET], self.semantics)
        self.oracle = Oracle(self.books, self.venue, self.limits)

    # --- processes --------------------------------------------------------------------------------

    def raise_worker(self, name: str) -> None:
        self._alive[name] = self.world.start(name, self._work)

    def raise_settler(self, name: str) -> None:
        self._alive[name] = self.world.start(name, self._settle)

    def raise_sweeper(self) -> None:
        self._alive["sweeper"] = self.world.start("sweeper", self._sweep)

    def raise_again(self, process: Process) -> None:
        """A process that died is started anew, with nothing in its memory."""
        self.deaths += 1
        self.on_death()
        kinds: dict[str, Callable[[Process], object]] = {
            "worker": self._work,
            "settler": self._settle,
            "sweeper": self._sweep,
        }
        main = kinds[process.name.partition("-")[0]]
        self._alive[process.name] = self.world.start(process.name, main)

    @property
    def alive(self) -> Sequence[Process]:
        return list(self._alive.values())

    def _links(self) -> tuple[LedgerLink, VenueLink]:
        return (
            LedgerLink(self.books, self.world, self.oracle, self.weather),
            VenueLink(self.venue, self.world, self.oracle, self.weather),
        )

    def _work(self, process: Process) -> None:
        """The body of the tasks that place and cancel; their message comes again when it dies."""
        books, venue = self._links()
        watch = Watch()
        while True:
            while not self._messages:
                self._idle.append(process)
                self.world.wait()
            order_id = self._messages.popleft()
            is_done = False
            try:
                if self.books.orders[order_id].state is OrderState.READY:
                    executor.place(order_id, books, venue, self.limits, process.clock)
                else:
                    cancel(order_id, books, venue, process.clock, watch)
                is_done = True
            except BotswarmError:
                is_done = True  # said, and left as it stands: the row rings again
            finally:
                if not is_done:
                    self.ring(order_id)
            self.world.rest(0.001)

    def _settle(self, process: Process) -> None:
        books, venue = self._links()
        watch = Watch()
        while True:
            try:
                settle(books, venue, process.clock, watch)
            except BotswarmError:
                self.world.step("a round came to nothing")
            self.world.rest(SETTLE_EVERY_S)

    def _sweep(self, process: Process) -> None:
        """Rows nobody looked at ring again."""
        while True:
            self.world.step("before a sweep")
            for order in list(self.books.orders.values()):
                if order.state is OrderState.READY and order.id not in self._messages:
                    self.ring(order.id)
            self.world.rest(SWEEP_EVERY_S)

    def ring(self, order_id: str) -> None:
        self._messages.append(order_id)
        while self._idle:
            process = self._idle.popleft()
            if not process.is_dead:
                self.world.wake(process)
                return

    # --- intents and the market -------------------------------------------------------------------

    def decide(self, order: Order, *, rings: int = 1) -> None:
        """A strategy's decision is committed; its message may be lost, or come many times."""
        patience = order.signal_expires_at - order.created_at
        now = self.world.clock.now()
        order = dataclasses.replace(order, created_at=now, signal_expires_at=now + patience)
        self.books.add(order)
        for _ in range(rings):
            self.ring(order.id)

    def wish_cancel(self, order_id: str, *, rings: int = 1) -> None:
        """A person or a bot wants it ended, whatever state it is in."""
        self.books.wish_cancel(order_id)
        for _ in range(rings):
            self.ring(order_id)

    def trade_what_rests(self) -> None:
        """The market comes to every order in the book."""
        for taken in self.venue.orders:
            if not taken.state.is_final:
                self.venue.fill(taken, taken.quantity - taken.filled)

    def move_the_market(self, taken: Accepting) -> None:
        if taken.state.is_final:
            return
        left = taken.quantity - taken.filled
        match self.chance.randrange(4):
            case 0:
                self.venue.fill(taken, left)
            case 1 if left > MARKET.lot_size:
                self.venue.fill(taken, MARKET.round_quantity(left / 2))
            case 2:
                taken.state = OrderState.EXPIRED
            case _:
                pass

    # --- from beginning to end --------------------------------------------------------------------

    def heal(self) -> None:
        """Everything works from now on; what rests in the book is traded."""
        fair = fair_weather()
        for name in Weather.__slots__:
            setattr(self.weather, name, getattr(fair, name))
        self.is_healed = True
        for process in self.alive:
            process.frozen_until = 0.0
            process.clock.offset = timedelta(0)
        self.books.trading_state = TradingState.ACTIVE
        self._trade_until_all_have_ended()

    def _trade_until_all_have_ended(self) -> None:
        self.trade_what_rests()
        if not self.has_ended():
            self.world.after(1.0, self._trade_until_all_have_ended)

    def has_ended(self) -> bool:
        if self.oracle.violations:
            return True
        return self.is_healed and all(order.state.is_final for order in self.books.orders.values())

    def finish(self) -> Result:
        """From here on without faults, to the end or until nobody can wait any longer."""
        self.heal()
        self.world.run(self.world.now_s + HEALED_WITHIN_S, self.has_ended)
        # What the network still holds arrives after everything is over.
        if not self.oracle.violations:
            self.world.run(self.world.now_s + 120.0, lambda: bool(self.oracle.violations))
        if not self.oracle.violations:
            self.oracle.check_the_end()
        for process in self.alive:
            self.world.kill(process)
        return Result(
            violations=self.oracle.violations,
            intents=len(self.books.orders),
            executed=len(self.venue.orders),
            attempts=sum(len(each) for each in self.books.attempts.values()),
            deaths=self.deaths,
            refused_late=self.venue.refused_late,
            steps=self.world.steps,
            ended_at_s=self.world.now_s,
        )


def an_order(number: int, chance: random.Random, *, patience_s: float, sells: bool) -> Order:
    side = Side.SELL if sells and chance.random() < 0.4 else Side.BUY
    kind = chance.choice([OrderKind.MARKET, OrderKind.LIMIT, OrderKind.LIMIT])
    price = Decimal(chance.randrange(9000, 11000)) / 100
    return Order(
        id=str(UUID(int=(chance.getrandbits(96) << 32) | number)),
        bot=f"bot-{number % 5}",
        venue="simulated",
        account="paper",
        symbol="BTC-USDT",
        side=side,
        kind=kind,
        quantity=Decimal(chance.randrange(1_000, 40_000)) / 10_000,
        limit_price=price if kind is OrderKind.LIMIT else None,
        time_in_force=TimeInForce.GTC,
        reference_price=price,
        state=OrderState.READY,
        created_at=START,
        signal_expires_at=START + timedelta(seconds=patience_s),
    )
