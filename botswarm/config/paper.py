"""The settings of trading on paper at a real venue's prices: docs/paper-trading.md."""

from __future__ import annotations

import re
from decimal import Decimal

from botswarm.config.kinds import Kind, Setting, whole_number
from botswarm.errors import Problem

_AMOUNT = r"[0-9]{1,12}(?:\.[0-9]{1,8})?"
_FEES = re.compile(rf"([a-z][a-z0-9-]{{0,40}})=({_AMOUNT})/({_AMOUNT})")
_BALANCE = re.compile(rf"([A-Z0-9]{{1,20}})=({_AMOUNT})")


def _parts(text: str) -> list[str]:
    return [part for part in text.replace(" ", "").split(",") if part]


def _fees(text: str) -> object:
    fees: dict[str, tuple[Decimal, Decimal]] = {}
    for part in _parts(text):
        found = _FEES.fullmatch(part)
        if found is None or max(Decimal(found[2]), Decimal(found[3])) >= 1:
            return Problem(
                f"holds {part!r}, which is no venue's fees",
                "write kraken=0.0025/0.004: shares of a trade's worth, maker's and taker's",
            )
        fees[found[1]] = Decimal(found[2]), Decimal(found[3])
    return fees


def _balances(text: str) -> object:
    balances: dict[str, Decimal] = {}
    for part in _parts(text):
        found = _BALANCE.fullmatch(part.upper())
        if found is None:
            return Problem(f"holds {part!r}, which is no balance", "write USDT=100000,BTC=0.5")
        balances[found[1]] = Decimal(found[2])
    return balances


PAPER: tuple[Setting, ...] = (
    Setting(
        name="paper_balances",
        kind=Kind(read=_balances, schema={"type": "string"}, words="such as USDT=100000,BTC=0.5"),
        help="What a new paper account begins with, of the assets its venue knows.",
        default_words="USDT=100000,USDC=100000,USD=100000,EUR=100000",
    ),
    Setting(
        name="paper_fees",
        kind=Kind(read=_fees, schema={"type": "string"}, words="such as kraken=0.0025/0.004"),
        help="Fees of paper trades by venue, maker's and taker's, where they are not the venue's "
        "usual ones.",
        default_words="binance=0.001/0.001, coinbase=0.004/0.006, kraken=0.0025/0.004; others "
        "as binance",
    ),
    Setting(
        name="paper_latency_ms",
        kind=whole_number(0, 1000, "milliseconds"),
        help="How long an order on paper is on its way, give or take half of it.",
        default=80,
    ),
    Setting(
        name="paper_stale_s",
        kind=whole_number(1, 300, "seconds"),
        help="Without a price of the venue for so long, orders on paper are refused and nothing "
        "fills.",
        default=10,
    ),
)
