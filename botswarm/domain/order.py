"""Orders: what can be asked of a venue, and the states an order goes through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from botswarm.errors import BotswarmError


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY

    @staticmethod
    def closing(quantity: Decimal) -> Side:
        """Of what closes a position of so much, which is negative when short."""
        return Side.SELL if quantity > 0 else Side.BUY


class OrderKind(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    POST_ONLY = "post_only"  # a limit order that the venue refuses where it would trade at once
    STOP = "stop"  # at market, once the price has come to the stop price
    STOP_LIMIT = "stop_limit"  # a limit order from then on

    @property
    def has_limit(self) -> bool:
        return self in (OrderKind.LIMIT, OrderKind.POST_ONLY, OrderKind.STOP_LIMIT)

    @property
    def has_stop(self) -> bool:
        return self in (OrderKind.STOP, OrderKind.STOP_LIMIT)


class TimeInForce(StrEnum):
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class OrderState(StrEnum):
    """What is known of an order. Everything after SENDING is the venue's word, or its absence."""

    READY = "ready"  # the bot wants it; nobody has judged it
    REFUSED = "refused"  # the gate said no; its reason is kept
    STALE = "stale"  # its signal is too old to be acted on
    APPROVED = "approved"  # judged, exposure reserved, nothing sent
    SENDING = "sending"  # the signed bytes are committed; they may or may not have left
    UNKNOWN = "unknown"  # no answer, or one that proves nothing
    LIVE = "live"  # the venue has it in its book
    PARTIAL = "partial"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"  # the venue said no, or a person does for it: nothing was placed
    EXPIRED = "expired"  # the venue took it and let it end unfilled, or in part

    @property
    def is_final(self) -> bool:
        return not NEXT[self]

    @property
    def may_be_live(self) -> bool:
        """It counts as full exposure: at the venue it is open, or could be."""
        return self in _MAY_BE_LIVE


_S = OrderState
_OUTCOMES = frozenset({_S.LIVE, _S.PARTIAL, _S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED})
NEXT: Mapping[OrderState, frozenset[OrderState]] = {
    _S.READY: frozenset({_S.APPROVED, _S.REFUSED, _S.STALE}),
    # Back to READY never: an approved order is sent, or ends here when its signal grew old.
    _S.APPROVED: frozenset({_S.SENDING, _S.STALE, _S.REFUSED}),
    _S.SENDING: _OUTCOMES | {_S.UNKNOWN},
    # APPROVED only by proof that nothing was placed; then another attempt is allowed.
    _S.UNKNOWN: _OUTCOMES | {_S.APPROVED},
    _S.LIVE: _OUTCOMES - {_S.LIVE, _S.REJECTED},
    _S.PARTIAL: frozenset({_S.PARTIAL, _S.FILLED, _S.CANCELED, _S.EXPIRED}),
    _S.REFUSED: frozenset(),
    _S.STALE: frozenset(),
    _S.FILLED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
}
_MAY_BE_LIVE = frozenset({_S.APPROVED, _S.SENDING, _S.UNKNOWN, _S.LIVE, _S.PARTIAL})
NOT_PLACED = frozenset({_S.READY, _S.APPROVED, _S.REFUSED, _S.STALE, _S.REJECTED})
"""By the books nothing of the order is at the venue, and nothing of it is filled."""


class IllegalTransition(BotswarmError):
    """A bug: an order was moved along a path that does not exist."""

    def __init__(self, order_id: str, before: OrderState, after: OrderState) -> None:
        super().__init__(f"order {order_id}: {before} -> {after} is not allowed")
        self.before = before
        self.after = after


def reckoned_at(limit: Decimal | None, stop: Decimal | None, reference: Decimal) -> Decimal:
    """What an order is reckoned at until it trades; without a limit the dearer of what may be."""
    return limit or max(stop or Decimal(0), reference)


FENCED_WITHIN = timedelta(days=1)


def is_fenced(signed_at: datetime, fence_at: datetime) -> bool:
    """Whether there comes a moment from which the venue refuses what was signed then; some refuse
    nothing for being late, and their fence is a lifetime away.
    """
    return fence_at - signed_at <= FENCED_WITHIN


PROTECTIVE = 8
"""The version of the ids of orders that guard a position; bots' and people's have others."""


def protective_id(*names: str | int) -> str:
    """Of an order that guards a position: the same names make the same id."""
    made = bytearray(sha256("\0".join(map(str, names)).encode()).digest()[:16])
    made[6] = made[6] & 0x0F | PROTECTIVE << 4
    made[8] = made[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(made)))


def is_protective(order_id: str) -> bool:
    return len(order_id) == 36 and order_id[14] == str(PROTECTIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One intent of one bot on its way to a venue. ``id`` is the intent's and never changes."""

    id: str
    """A UUID made of bot, evaluation and leg: a redelivered evaluation makes the same one."""
    bot: str
    venue: str
    account: str
    symbol: str
    side: Side
    kind: OrderKind
    quantity: Decimal
    limit_price: Decimal | None
    time_in_force: TimeInForce
    reference_price: Decimal
    """The price the decision was made at; a market order's notional is judged by it."""
    state: OrderState
    created_at: datetime
    signal_expires_at: datetime
    stop_price: Decimal | None = None
    filled_quantity: Decimal = Decimal(0)
    venue_order_id: str | None = None
    reason: str | None = None
    replaces: str | None = None
    """The order that has to end before this one is judged; what that one filled is taken off."""
    is_reduce_only: bool = False
    """It may only shrink a position: it is refused where it would not."""
    is_ending: bool = False
    """Somebody asked for its end; until the venue says so it may still be filled."""

    @property
    def client_order_id(self) -> str:
        """What the venue knows it by; the same for every attempt, 32 characters of hex."""
        return self.id.replace("-", "")

    @staticmethod
    def id_of(client_order_id: str) -> str | None:
        """Back from what the venue knows it by; None for what cannot be one of ours."""
        if re.fullmatch(r"[0-9a-f]{32}", client_order_id) is None:
            return None
        return str(UUID(hex=client_order_id))

    @property
    def is_protective(self) -> bool:
        """It guards a position, and its bot has not decided it."""
        return is_protective(self.id)

    @property
    def price(self) -> Decimal:
        """What it is reckoned at until it trades; without a limit the dearer of what may be."""
        return reckoned_at(self.limit_price, self.stop_price, self.reference_price)

    @property
    def notional(self) -> Decimal:
        return self.quantity * self.price

    @property
    def open_quantity(self) -> Decimal:
        return self.quantity - self.filled_quantity

    def check(self, after: OrderState) -> None:
        if after not in NEXT[self.state]:
            raise IllegalTransition(self.id, self.state, after)
