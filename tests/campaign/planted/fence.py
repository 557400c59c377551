"""The fence is gone: what the venue does not find at once is taken for "not placed"."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order
from botswarm.exchanges.base import SignedRequest
from botswarm.exchanges.binance.trading import BinanceTrading
from botswarm.trading import settle

_sign = BinanceTrading.sign


def sign(
    self: BinanceTrading, order: Order, instrument: Instrument, now: datetime
) -> SignedRequest:
    request = _sign(self, order, instrument, now)
    return replace(request, fence_at=request.signed_at)


BinanceTrading.sign = sign  # type: ignore[method-assign]
settle.EMPTY_ROUNDS_APART_S = 0.0
