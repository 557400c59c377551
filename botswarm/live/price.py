"""A market's last price as it stands in Redis, and the doubts with which it is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from botswarm.domain.market import Quote, Trade
from botswarm.errors import Malformed
from botswarm.market.wire import Digest, plain

VERSION = 1
STALE_AFTER_S = 10.0
FUTURE_MAX_S = 5.0
"""Clocks differ a little; what is further ahead than this was never a price of ours."""
TTL_S = 30.0
"""What nobody renews vanishes; longer than it takes a price to be called stale."""
BYTES_MAX = 4096
"""Several times what a price takes."""
SYMBOL_LENGTH_MAX = 50
DIGITS_MAX = 30
NUMBER_MAX = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePrice:
    venue: str
    symbol: str
    sequence: int
    """That of the digest it was told in."""
    trade: Trade | None
    quote: Quote | None
    v: int = VERSION

    @property
    def exchange_ms(self) -> int:
        return max(tick.exchange_ms for tick in (self.trade, self.quote) if tick is not None)

    def age_s(self, now_ms: int) -> float:
        return max(0.0, (now_ms - self.exchange_ms) / 1000)

    def is_stale(self, now_ms: int) -> bool:
        return self.age_s(now_ms) > STALE_AFTER_S


def prices_of(digest: Digest) -> list[LivePrice]:
    """Of each market in it that has had a trade or a quote."""
    return [
        LivePrice(
            venue=digest.venue,
            symbol=market.symbol,
            sequence=market.sequence,
            trade=market.trade,
            quote=market.quote,
        )
        for market in digest.markets
        if market.trade is not None or market.quote is not None
    ]


# --- where it stands --------------------------------------------------------------------------


def contents_key(environment: str, venue: str) -> str:
    """Under it stands the list of the venue's markets that have a price."""
    return f"botswarm:{environment}:live:{venue}"


def price_key(environment: str, venue: str, symbol: str) -> str:
    return f"{contents_key(environment, venue)}:{symbol}"


# --- as bytes ---------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder(decimal_format="string")
_price = msgspec.json.Decoder(LivePrice)
_contents = msgspec.json.Decoder(list[str])


def encode(value: LivePrice | Sequence[str]) -> bytes:
    return plain(_encoder.encode(value))


def decode_contents(body: bytes) -> list[str]:
    """Raises Malformed for anything but a list of symbols."""
    try:
        symbols = _contents.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a list of markets: {error}") from error
    if not all(each.isprintable() and 0 < len(each) <= SYMBOL_LENGTH_MAX for each in symbols):
        raise Malformed("the list names something that is no market")
    return symbols


def decode(body: bytes, venue: str, symbol: str, now_ms: int) -> LivePrice:
    """The price of that market; raises Malformed for anything that cannot be one by now.

    Anybody may have written there: what is shown is right in every field or it is not shown.
    """
    try:
        price = _price.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a price: {error}") from error
    if price.v != VERSION:
        raise Malformed(f"the price is of version {price.v}, this reader knows {VERSION}")
    ticks = [tick for tick in (price.trade, price.quote) if tick is not None]
    if not ticks:
        raise Malformed("it says no price at all")
    if {(each.venue, each.symbol) for each in (price, *ticks)} != {(venue, symbol)}:
        raise Malformed("the price is that of another market")
    latest_ms = now_ms + FUTURE_MAX_S * 1000
    if not all(0 < tick.exchange_ms <= latest_ms for tick in ticks):
        raise Malformed("the price is from no time that has been")
    if not 0 <= price.sequence < NUMBER_MAX:
        raise Malformed("the number of its digest is none")
    if not _is_possible(price.trade, price.quote):
        raise Malformed("a number in it is no price or quantity")
    return price


def _is_possible(trade: Trade | None, quote: Quote | None) -> bool:
    amounts: list[Decimal] = []
    if trade is not None:
        if not _is_amount(trade.price) or not trade.price:
            return False
        amounts.append(trade.quantity)
    if quote is not None:
        # An empty side of the book is said as 0.
        amounts += [quote.bid, quote.bid_quantity, quote.ask, quote.ask_quantity]
    return all(_is_amount(amount) for amount in amounts)


def _is_amount(number: Decimal) -> bool:
    """Short enough to be written out, too: ``1E+999999999`` is a number of eleven letters."""
    if not number.is_finite() or number < 0:
        return False
    _, digits, exponent = number.as_tuple()
    return len(digits) <= DIGITS_MAX and abs(int(exponent)) <= DIGITS_MAX
