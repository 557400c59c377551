"""One look at an account: book what the venue tells of fills, and say what still does not agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Context, Decimal

from botswarm.clock import Clock
from botswarm.domain.fill import Fill
from botswarm.domain.order import NOT_PLACED, Order, OrderState
from botswarm.domain.reconciliation import Balances, Difference, Fate, Kind, Reckoned
from botswarm.exchanges.base import Report, TradingVenue
from botswarm.trading.accounts import Accounts
from botswarm.trading.books import Books
from botswarm.trading.settle import Watch, settle

RECENT = timedelta(seconds=30)
"""Fills since then may have happened between two answers of the venue; clocks differ, too."""
IN_FLIGHT_S = 1.0
"""A fill is given this long to be booked by whoever heard of it first."""
HUNTED_MAX = 20
"""Markets that are searched for trades when balances moved in which we never trade."""
ASKED_MAX = 20
"""Orders that are asked for one by one; the settling rounds ask for the others."""
RESTING = frozenset({OrderState.LIVE, OrderState.PARTIAL})
IN_DOUBT = frozenset({OrderState.SENDING, OrderState.UNKNOWN})
EXACT = Context(prec=100)
NOTHING = Decimal(0)

Wait = Callable[[float], object]


@dataclass(slots=True)
class Seen:
    """What the looks of one reconciliation found out."""

    facts: dict[str, Difference] = field(default_factory=dict)
    """What needs no second look, by subject."""
    absent: dict[str, Order] = field(default_factory=dict)
    """Orders that the venue does not have, by subject."""
    counts: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    """By market: up to which trade both agree."""
    hunted: dict[str, int] = field(default_factory=dict)
    """By market where we never trade: the latest trade of somebody else."""
    filled: set[str] = field(default_factory=set)
    """Orders of ours, by client order id, of which fills were booked."""

    def note(self, kind: Kind, subject: str, words: str, fate: Fate) -> None:
        self.facts[subject] = Difference(kind=kind, subject=subject, words=words, fate=fate)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


@dataclass(frozen=True, slots=True)
class Look:
    books: Books
    accounts: Accounts
    venue: TradingVenue
    clock: Clock
    wait: Wait
    seen: Seen

    @property
    def place(self) -> tuple[str, str]:
        return self.venue.name, self.venue.account

    def look(self) -> list[Difference]:
        """What does not agree at this moment, after what can be booked was booked."""
        since = self.clock.now() - RECENT
        opened_at = self.accounts.standing(*self.place).opened_at
        known = self.accounts.latest_trades(*self.place)
        there = self.venue.open_orders()
        balances = _without_nothing(self.venue.balances())
        if opened_at is None:
            opened_at = self.venue.server_time()
            if (hindrance := self._open(balances, opened_at)) is not None:
                return [hindrance]
        unequal = self._balances(balances, since, opened_at)
        if not unequal:
            # Every trade up to these is booked, or the sums would not be the same.
            self.seen.marks = self.seen.hunted | dict(known)
        return [*unequal, *self._orders(there), *self._impossible_fills()]

    # --- the first time -----------------------------------------------------------------------

    def _open(self, balances: Balances, moment: datetime) -> Difference | None:
        """Take over what is there at a moment at which nothing moves; else say what did."""
        unsettled = self.books.unsettled(*self.place)
        in_doubt = sum(order.state in IN_DOUBT for order, _ in unsettled)
        for symbol in self.accounts.markets(*self.place):
            # Whatever others did until now will be part of the opening.
            known = self.books.last_trade_id(*self.place, symbol)
            self._book_market(symbol, known, moment)
        if in_doubt:
            words = f"{in_doubt} orders in doubt have to be settled first"
        elif _without_nothing(self.venue.balances()) != balances:
            words = "its balances moved while they were read"
        else:
            self.accounts.open(*self.place, balances, moment, self.clock.now())
            self.seen.count("opened")
            return None
        # Named after its moment, so that no two looks agree on it: it is tried again.
        return _raised(Kind.LATE, f"opening of {moment.isoformat()}", words)

    # --- fills -----------------------------------------------------------------------------------

    def _book(self, symbols: Sequence[str], opened_at: datetime) -> None:
        """Book all fills since the ledger agreed with the venue last, page by page.

        In a market that is new to us it is all of its past: others may have traded there since
        the account was opened, before we did.
        """
        marks = self.accounts.marks(*self.place)
        for symbol in symbols:
            self._book_market(symbol, marks.get(symbol), opened_at)

    def _book_market(self, symbol: str, after: int | None, opened_at: datetime) -> int | None:
        """Answers the latest trade, if there was one."""
        latest = None
        for page in pages_after(self.venue, symbol, after):
            self._book_new(page, opened_at)
            latest = page[-1].trade_id
        return latest

    def _book_new(self, fills: Sequence[Fill], opened_at: datetime) -> None:
        ours = self.accounts.orders({fill.client_order_id for fill in fills})
        # What others did before is part of what the account was opened with.
        wanted = [each for each in fills if each.client_order_id in ours or each.at > opened_at]
        new = self.accounts.unbooked(*self.place, wanted)
        if not new:
            return
        self.accounts.book(*self.place, new, self.clock.now())
        for fill in new:
            self._note_fill(fill, ours)

    def _note_fill(self, fill: Fill, ours: Mapping[str, Order]) -> None:
        subject = f"trade {fill.trade_id} of {fill.symbol}"
        words = f"{fill.side} {fill.quantity:f} at {fill.price:f}"
        order = ours.get(fill.client_order_id)
        if order is None:
            self.seen.count("external_fills")
            words += ", of no order of ours: booked as external"
            self.seen.note(Kind.EXTERNAL, subject, words, Fate.REPAIRED)
        else:
            self.seen.count("late_fills")
            self.seen.filled.add(fill.client_order_id)
            self.seen.note(Kind.LATE, subject, f"{words}, of order {order.id}", Fate.REPAIRED)

    def _impossible_fills(self) -> list[Difference]:
        """Fills of orders that by the ledger never came to the venue."""
        return [
            _raised(
                Kind.CONTRADICTION,
                f"order {order.id}",
                f"is {order.state} in the ledger, and {order.filled_quantity:f} of it was filled",
            )
            for order in self.accounts.orders(self.seen.filled).values()
            if order.state in NOT_PLACED
        ]

    # --- orders ----------------------------------------------------------------------------------

    def _orders(self, there: Sequence[Report]) -> list[Difference]:
        ours = self.accounts.orders({report.client_order_id for report in there})
        external = [report for report in there if report.client_order_id not in ours]
        self.seen.counts |= {"open_orders": len(there), "external_orders": len(external)}
        if external:
            self.accounts.keep_external(*self.place, external, self.clock.now())
        found = [self._stranger(report) for report in external]
        found += [
            self._risen(report, order)
            for report in there
            if (order := ours.get(report.client_order_id)) is not None
            if order.state.is_final or order.state is OrderState.READY
        ]
        present = {report.client_order_id for report in there}
        absent = [
            order
            for order, _ in self.books.unsettled(*self.place)
            if order.state in RESTING and order.client_order_id not in present
        ]
        found += [self._absent(order) for order in absent[:ASKED_MAX]]
        return [each for each in found if each is not None]

    def _stranger(self, report: Report) -> Difference | None:
        subject = f"venue order {report.venue_order_id}"
        if Order.id_of(report.client_order_id) is None:
            words = f"is open under {report.client_order_id!r}: not ours, and left alone"
            self.seen.note(Kind.EXTERNAL, subject, words, Fate.NOTED)
            return None
        words = f"is open under {report.client_order_id}, an id like ours that nobody here gave"
        return _raised(Kind.CONTRADICTION, subject, words)

    def _risen(self, report: Report, order: Order) -> Difference | None:
        now = self.venue.query(order)
        if now is None or now.state.is_final:
            return None  # it ended after the venue had told what is open
        words = f"is open at the venue; order {order.id} is {order.state} in the ledger"
        return _raised(Kind.CONTRADICTION, f"venue order {report.venue_order_id}", words)

    def _absent(self, order: Order) -> Difference | None:
        """It has ended, most likely: then settling it is all there is to do."""
        settle(self.books, self.venue, self.clock, Watch(), order.id)
        if self.venue.query(order) is not None:
            return None
        subject = f"order {order.id}"
        self.seen.absent[subject] = order
        words = f"is {order.state} in the ledger, and the venue does not have it"
        return _raised(Kind.MISSING, subject, words)

    # --- balances -------------------------------------------------------------------------------

    def _balances(
        self, balances: Balances, since: datetime, opened_at: datetime
    ) -> list[Difference]:
        """Sums that are equal to the last digit prove that every fill is booked.

        So fills are asked for only where they are not: at a busy account that is dear.
        """
        self.seen.counts["assets"] = len(balances)
        unequal = self._unexplained(balances, since)
        if unequal:
            self.wait(IN_FLIGHT_S)
            unequal = self._unexplained(balances, since)
        if unequal:
            self._book(self.accounts.markets(*self.place), opened_at)
            unequal = self._unexplained(balances, since)
        if len(unequal) > 1 and self._hunt(unequal, opened_at):
            unequal = self._unexplained(balances, since)
        return [
            _unequal(asset, amount, balances.get(asset, NOTHING))
            for asset, amount in sorted(unequal.items())
        ]

    def _unexplained(self, balances: Balances, since: datetime) -> Balances:
        return unexplained(balances, self.accounts.reckon(*self.place, since))

    def _hunt(self, unequal: Balances, opened_at: datetime) -> bool:
        """Somebody may have traded in a market where we never do."""
        known = set(self.accounts.markets(*self.place))
        between = self.accounts.markets_between(self.venue.name, set(unequal))
        others = [symbol for symbol in between if symbol not in known]
        for symbol in others[:HUNTED_MAX]:
            latest = self._book_market(symbol, None, opened_at)
            if latest is not None:
                self.seen.hunted[symbol] = latest
        return bool(others)


def pages_after(venue: TradingVenue, symbol: str, after: int | None) -> Iterator[Sequence[Fill]]:
    while page := venue.fills(symbol, after_trade_id=after):
        yield page
        after = page[-1].trade_id


def unexplained(there: Balances, reckoned: Reckoned) -> Balances:
    """By asset what the venue has more of; empty where they agree at some moment of the question.

    The fills are read after the balances, so the ledger may be ahead of the venue's answer by the
    latest of them, in their order, and by nothing else. Of several ways to read it, it is the one
    that leaves the fewest assets unexplained.
    """
    here = dict(reckoned.balances)
    best = _unequal_assets(there, here)
    for move in reckoned.latest:
        if not best:
            break
        for asset, amount in move.items():
            here[asset] = EXACT.subtract(here.get(asset, NOTHING), amount)
        now = _unequal_assets(there, here)
        if len(now) < len(best):
            best = now
    return best


def _unequal_assets(there: Balances, here: Balances) -> Balances:
    more = {
        asset: EXACT.subtract(there.get(asset, NOTHING), here.get(asset, NOTHING))
        for asset in {*there, *here}
    }
    return _without_nothing(more)


def _without_nothing(balances: Mapping[str, Decimal]) -> Balances:
    return {asset: amount for asset, amount in balances.items() if amount}


def _unequal(asset: str, amount: Decimal, there: Decimal) -> Difference:
    than = "more" if amount > 0 else "less"
    return Difference(
        kind=Kind.CORRECTION,
        subject=f"balance of {asset}",
        words=f"the venue has {there:f}, {abs(amount):f} {than} than the ledger",
        fate=Fate.RAISED,
        asset=asset,
        amount=amount,
    )


def _raised(kind: Kind, subject: str, words: str) -> Difference:
    return Difference(kind=kind, subject=subject, words=words, fate=Fate.RAISED)
