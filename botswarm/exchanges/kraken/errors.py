"""Kraken's error texts in one table: what each one says about the order it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from botswarm.exchanges.meaning import Meaning

INVALID_NONCE = "EAPI:Invalid nonce"
INVALID_SESSION = "ESession:Invalid session"
UNKNOWN_ORDER = "EOrder:Unknown order"
NO_SUCH_ORDER = (UNKNOWN_ORDER, "EOrder:Invalid order")
"""To a question that names the venue's own id: it has no such order, or does not see it yet."""
CALLS_EXCEEDED = "EAPI:Rate limit exceeded"
ORDERS_EXCEEDED = "EOrder:Rate limit exceeded"

_M = Meaning
_NOT_PLACED = (
    # The key and its rights.
    *("EAPI:Invalid key", "EAPI:Invalid signature", "EAPI:Bad request"),
    *("EGeneral:Permission denied", "EGeneral:Unknown method", "EAccount:Invalid permissions"),
    *("EAuth:Account temporary disabled", "EAuth:Account unconfirmed", "ETrade:Invalid request"),
    *("ETrade:User Locked", "EAPI:Feature disabled", "EGeneral:Temporary lockout"),
    # What was asked for, where the venue names the argument; one is left out on purpose, below.
    *(f"EGeneral:Invalid arguments:{name}" for name in ("volume", "price", "price2", "pair")),
    *(f"EGeneral:Invalid arguments:{name}" for name in ("type", "ordertype", "timeinforce")),
    *(f"EGeneral:Invalid arguments:{name}" for name in ("time_in_force", "stptype", "deadline")),
    *(f"EGeneral:Invalid arguments:{name}" for name in ("post only", "Index unavailable")),
    *("EQuery:Unknown asset pair", "EQuery:Invalid asset pair", "EGeneral:Unknown asset pair"),
    "Currency pair not supported",
    # The matching engine's refusals.
    *("EOrder:Cannot open opposing position", "EOrder:Cannot open position"),
    *("EOrder:Margin allowance exceeded", "EOrder:Margin level too low"),
    *("EOrder:Margin position size exceeded", "EOrder:Insufficient margin"),
    *("EOrder:Insufficient funds", "EOrder:Order minimum not met", "EOrder:Cost minimum not met"),
    *("EOrder:Tick size check failed", "EOrder:Orders limit exceeded", "EOrder:Invalid price"),
    *("EOrder:Positions limit exceeded", "EOrder:Scheduled orders limit exceeded"),
    *("EOrder:Unknown position", "EOrder:Trading agreement required", "EOrder:Post only order"),
    *("EOrder:Reduce only:Non-PC", "EOrder:Reduce only:No position exists"),
    *("EBM:limit exceeded", "EFunding:Max fee exceeded"),
)
_LATER = (
    # Refused before anything else was looked at.
    *(
        INVALID_NONCE,
        INVALID_SESSION,
        CALLS_EXCEEDED,
        ORDERS_EXCEEDED,
        "EGeneral:Too many requests",
    ),
    *("EOrder:Domain rate limit exceeded", "EAuth:Rate limit exceeded", "EAuth:Too many requests"),
    *("EService:Market in cancel_only mode", "EService:Market in post_only mode"),
    *("EService:Market in limit_only mode", "EService:Throttled", "Exceeded msg rate"),
)
_UNKNOWN = (
    # The engine may have it: asking costs little, and being wrong costs an order.
    *("EService:Unavailable", "EService:Busy", "EService:Timeout", "EGeneral:Internal error"),
    # Late, by the engine's own word or by that of who waited for it.
    "EService:Deadline elapsed",
    # What would have flipped a position was traded as far as it went.
    "EOrder:Reduce only:Position is closed",
    # The words for a client order id that is open already are nowhere documented.
    *("EGeneral:Invalid arguments", "EGeneral:Invalid arguments:cl_ord_id"),
    *("EOrder:Invalid order", UNKNOWN_ORDER, "EDatabase:Internal error"),
)
MEANING: Mapping[str, Meaning] = {
    **dict.fromkeys(_NOT_PLACED, _M.NOT_PLACED),
    **dict.fromkeys(_LATER, _M.LATER),
    **dict.fromkeys(_UNKNOWN, _M.UNKNOWN),
}
_BY_LENGTH = sorted(MEANING, key=len, reverse=True)
ABOUT_CLIENT_IDS = ("cl_ord_id", "duplicate")


def meaning_of(errors: Iterable[str]) -> Meaning:
    """Of all that were said, what leaves the most open; what no table knows is unknown."""
    meanings = {_meaning_of(error) for error in errors}
    for meaning in (_M.UNKNOWN, _M.LATER, _M.NOT_PLACED):
        if meaning in meanings:
            return meaning
    return _M.UNKNOWN


def _meaning_of(error: str) -> Meaning:
    if any(sign in error.lower() for sign in ABOUT_CLIENT_IDS):
        # An order of this id may be there: good news, so ask for it.
        return _M.UNKNOWN
    for known in _BY_LENGTH:
        # What follows a colon or a blank are particulars, except where the table has none at all.
        if error == known or error.startswith((f"{known}:", f"{known} ")):
            return MEANING[known]
    return _M.UNKNOWN
