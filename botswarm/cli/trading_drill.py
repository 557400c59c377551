"""``trading drill``: the emergency stop, rehearsed on paper, and how long each one took."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.bot_choice import actor
from botswarm.cli.command import Command
from botswarm.cli.emergency import Place, Press, compare_where_awaited
from botswarm.cli.failures import CheckFailed
from botswarm.cli.order_cancel import confirm
from botswarm.cli.order_words import account_of
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.cli.urgency import hurry
from botswarm.errors import BotswarmError, NotFound, Refused

if TYPE_CHECKING:
    from botswarm.config import Settings
    from botswarm.domain.instrument import Instrument
    from botswarm.domain.order import Order
    from botswarm.exchanges.base import TradingVenue
    from botswarm.ledger.halts import Halt
    from botswarm.ledger.stops import Stop
    from botswarm.ledger.store import Ledger

BOT = "drill"
"""Whose the orders are that are placed to be cancelled."""
REASON = "a drill"
FAR = Decimal("0.7")
"""Of the last price: so far below it nothing trades."""
SAID_MAX_MS = 1000
CANCELLED_MAX_MS = 5000
PAPER = "paper"
ENDING_S = 30.0


@click.command("drill", cls=Command)
@click.option("--account", metavar="VENUE:ACCOUNT", help="This one; default: all on paper.")
@click.option(
    "--orders",
    "count",
    type=click.IntRange(0, 500),
    default=5,
    show_default=True,
    help="Place so many on each account first, far from the market.",
)
@click.option("--history", is_flag=True, help="Only list the stops and drills there were.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.pass_obj
def drill(session: Session, account: str | None, count: int, history: bool, limit: int) -> Answer:
    """Rehearse the emergency stop on paper: place orders, halt, cancel, try to order, resume.

    The paper accounts are halted for a few seconds, and all of their open orders end. The times
    are kept in the ledger. Fails where the halt takes a second or more, or the last cancel five.
    """
    from botswarm.ledger.store import Ledger

    settings = session.settings()
    ledger = Ledger(settings.database_url)
    if history:
        return _history(ledger, limit)
    places = _places(settings, ledger, account)
    names = [":".join(each) for each in places]
    confirm(session, f"halt {', '.join(names)} and end its orders", "\n".join(names))
    rehearsal = Rehearsal(settings, ledger, places)
    rehearsal.run(count)
    return rehearsal.answer()


@dataclass(slots=True)
class Rehearsal:
    settings: Settings
    ledger: Ledger
    places: Sequence[Place]
    placed: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """What was said to an order that came after the halt, by account."""
    failures: list[str] = field(default_factory=list)
    press: Press | None = None
    stop: Stop | None = None

    def run(self, count: int) -> None:
        for place in self.places:
            self._place_all(place, count)
        before = {each.scope: each for each in self.ledger.halts.all()}
        scopes = self._scopes()
        try:
            self._stop(scopes)
        finally:
            self._restore(scopes, before)
        assert self.press is not None, "it was pressed"
        self.stop = self.press.finish()
        self._judge()

    def _scopes(self) -> list[str]:
        from botswarm.ledger.halts import account_scope

        return [account_scope(*place) for place in self.places]

    def _stop(self, scopes: Sequence[str]) -> None:
        hurry()
        self.press = press = Press(
            self.settings,
            kind="drill",
            scopes=scopes,
            places=self.places,
            actor=actor(),
            reason=REASON,
            began=time.monotonic(),
            say=lambda words: None,
        )
        press.halt()
        press.cancel(ENDING_S)
        for place in self.places:
            self._try_to_order(place)

    def _restore(self, scopes: Sequence[str], before: dict[str, Halt]) -> None:
        """As it was: what somebody had halted stays so, and is held by whoever held it."""
        from botswarm.ledger.rehearsals import put_back

        database, now = self.ledger.database, datetime.now(UTC)
        put_back(database, scopes, before, drill=REASON, actor=actor(), now=now)

    # --- orders -----------------------------------------------------------------------------------

    def _place_all(self, place: Place, count: int) -> None:
        name = ":".join(place)
        try:
            with contextlib.closing(self._venue(place)) as venue:
                compare_where_awaited(self.ledger, venue)
                for _ in range(count):
                    known = self._placed(venue, self._order(venue))
                    if known.state.value != "live":
                        words = f"{name}: an order was {known.state}: {known.reason}"
                        self.failures.append(words)
                        break
                    self.placed[name] = self.placed.get(name, 0) + 1
        except BotswarmError as error:
            self.failures.append(f"{name}: no order was placed: {error.cause}")

    def _try_to_order(self, place: Place) -> None:
        """It must be refused."""
        name = ":".join(place)
        try:
            with contextlib.closing(self._venue(place)) as venue:
                known = self._placed(venue, self._order(venue))
        except BotswarmError as error:
            self.failures.append(f"{name}: it was not tried whether it is halted: {error.cause}")
            return
        self.refused[name] = f"{known.state}: {known.reason}"
        if known.state.value != "refused":
            self.failures.append(f"{name}: an order after the halt was {known.state}")

    def _venue(self, place: Place) -> TradingVenue:
        from botswarm.cli.emergency import venue_of

        return venue_of(self.settings, self.ledger, place)

    def _placed(self, venue: TradingVenue, order: Order) -> Order:
        from botswarm.clock import SystemClock
        from botswarm.trading import executor
        from botswarm.trading.limits import limits_of

        clock = SystemClock()
        self.ledger.orders.add(order, clock.now())
        limits = limits_of(self.settings)
        executor.place(order.id, self.ledger.books, venue, limits, clock)
        return self.ledger.orders.get(order.id)

    def _order(self, venue: TradingVenue) -> Order:
        from botswarm.cli.order_place import last_price
        from botswarm.domain.order import Order, OrderKind, OrderState, Side, TimeInForce

        market, now = self._market(venue.name), datetime.now(UTC)
        last = last_price(self.settings, venue.name, market.symbol)
        price = market.round_buy_price(last * FAR)
        quantity = max(market.quantity_min, market.notional_min * 2 / price) + market.lot_size
        return Order(
            id=str(uuid.uuid4()),
            bot=BOT,
            venue=venue.name,
            account=venue.account,
            symbol=market.symbol,
            side=Side.BUY,
            kind=OrderKind.LIMIT,
            quantity=market.round_quantity(quantity),
            limit_price=price,
            time_in_force=TimeInForce.GTC,
            reference_price=last,
            state=OrderState.READY,
            created_at=now,
            signal_expires_at=now + timedelta(seconds=self.settings.limit_signal_age_max_s),
        )

    def _market(self, venue: str) -> Instrument:
        known = [each for each in self.ledger.books.instruments(venue) if each.is_trading]
        if not known:
            raise NotFound(
                f"the ledger knows no market of {venue}", cure="start an order worker once"
            )
        usual = [each for each in known if each.symbol.startswith("BTC-")]
        return (usual or known)[0]

    # --- what came of it ------------------------------------------------------------------------

    def _judge(self) -> None:
        assert self.stop is not None, "it was written down"
        if self.stop.said_ms >= SAID_MAX_MS:
            self.failures.append(f"the halt took {self.stop.said_ms} ms, {SAID_MAX_MS} or more")
        if self.stop.in_force_ms is None:
            self.failures.append("it did not come into force")
        last = self.stop.cancelled_ms
        if last is None or last >= CANCELLED_MAX_MS:
            words = "is not known" if last is None else f"took {last} ms"
            self.failures.append(f"the last cancel {words}, {CANCELLED_MAX_MS} ms are allowed")
        if not self.stop.is_clean:
            self.failures.append("not everything came to its end")

    def answer(self) -> Answer:
        assert self.stop is not None, "it was written down"
        failure = None
        if self.failures:
            failure = CheckFailed(
                f"the drill found: {'; '.join(self.failures)}",
                cure="see: botswarm order list --bot drill, botswarm trading status",
            )
        placed = sum(self.placed.values())
        refused = sum(said.startswith("refused") for said in self.refused.values())
        text = (
            f"{placed} orders placed on {len(self.places)} accounts; halted after "
            f"{self.stop.said_ms} ms, in force {_after(self.stop.in_force_ms)}, the last cancel "
            f"{_after(self.stop.cancelled_ms)}; then {refused} accounts refused an order; "
            "what held before holds again"
        )
        return Answer(
            data={**described(self.stop), "placed": self.placed, "refused": self.refused},
            text=text,
            next=["botswarm trading drill --history"],
            failure=failure,
        )


def _places(settings: Settings, ledger: Ledger, named: str | None) -> list[Place]:
    """Raises Refused for an account of anything but play money of our own."""
    from botswarm.cli.account_choice import configured, kinds

    kind_of = kinds(settings)
    if named is not None:
        venue, name = account_of(named)
        assert venue is not None, "the option was given"
        assert name is not None, "the option was given"
        if kind_of(venue, name) != PAPER:
            raise Refused(
                f"{named} is not on paper: drills are", cure="name one of: botswarm account list"
            )
        return [(venue, name)]
    found = [(each.venue, each.name) for each in configured(settings, ledger)]
    places = [place for place in found if kind_of(*place) == PAPER]
    if not places:
        raise NotFound("no account is on paper", cure="see: botswarm account list")
    return places


def _after(milliseconds: int | None) -> str:
    return "not seen" if milliseconds is None else f"after {milliseconds} ms"


def _history(ledger: Ledger, limit: int) -> Answer:
    from botswarm.ledger.stops import Stops

    found = Stops(ledger.database).history(limit=limit)
    rows = [
        (
            f"{each.at:%Y-%m-%d %H:%M:%S}",
            each.kind,
            each.actor,
            each.said_ms,
            each.in_force_ms,
            each.cancelled_ms,
            each.flat_ms,
            "yes" if each.is_clean else "no",
        )
        for each in found
    ]
    heads = ["AT", "KIND", "BY", "HALT MS", "IN FORCE MS", "LAST CANCEL MS", "FLAT MS", "CLEAN"]
    text = in_columns(heads, rows) if rows else "There was none."
    return Answer(data=[described(each) for each in found], text=text)


def described(stop: Stop) -> dict[str, Any]:
    return {
        "id": stop.id,
        "at": stop.at.isoformat(),
        "kind": stop.kind,
        "actor": stop.actor,
        "reason": stop.reason,
        "said_ms": stop.said_ms,
        "in_force_ms": stop.in_force_ms,
        "cancelled_ms": stop.cancelled_ms,
        "flat_ms": stop.flat_ms,
        "is_clean": stop.is_clean,
        "numbers": dict(stop.numbers),
    }
