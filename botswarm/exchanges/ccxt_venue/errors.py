"""ccxt's errors in one table: what each class says about the order, for all its venues."""

from __future__ import annotations

from collections.abc import Mapping

from botswarm.exchanges.meaning import Meaning

_M = Meaning
MEANING: Mapping[str, Meaning] = {
    # What a venue documents as refusals, as ccxt sorts them.
    "AuthenticationError": _M.NOT_PLACED,
    "PermissionDenied": _M.NOT_PLACED,
    "AccountNotEnabled": _M.NOT_PLACED,
    "AccountSuspended": _M.NOT_PLACED,
    "ArgumentsRequired": _M.NOT_PLACED,
    "BadRequest": _M.NOT_PLACED,
    "BadSymbol": _M.NOT_PLACED,
    "MarketClosed": _M.NOT_PLACED,
    "RestrictedLocation": _M.NOT_PLACED,
    "ManualInteractionNeeded": _M.NOT_PLACED,
    "InsufficientFunds": _M.NOT_PLACED,
    "InvalidOrder": _M.NOT_PLACED,
    "OrderImmediatelyFillable": _M.NOT_PLACED,
    "OrderNotFillable": _M.NOT_PLACED,
    "ContractUnavailable": _M.NOT_PLACED,
    "NotSupported": _M.NOT_PLACED,
    "RateLimitExceeded": _M.LATER,
    "InvalidNonce": _M.LATER,
    # Catch-alls: some venue somewhere raises them after it has taken the order.
    "BaseError": _M.UNKNOWN,
    "ExchangeError": _M.UNKNOWN,
    "OperationRejected": _M.UNKNOWN,
    "NoChange": _M.UNKNOWN,
    "OperationFailed": _M.UNKNOWN,
    "NetworkError": _M.UNKNOWN,
    "DDoSProtection": _M.UNKNOWN,
    "ExchangeNotAvailable": _M.UNKNOWN,
    "OnMaintenance": _M.UNKNOWN,
    "RequestTimeout": _M.UNKNOWN,
    "BadResponse": _M.UNKNOWN,
    "NullResponse": _M.UNKNOWN,
    "CancelPending": _M.UNKNOWN,
    "ChecksumError": _M.UNKNOWN,
    # An order of this id is there: that is what we wanted to know.
    "DuplicateOrderId": _M.UNKNOWN,
    "OrderNotCached": _M.UNKNOWN,
    "OrderNotFound": _M.NOT_FOUND,
}
"""By the name of the class; one that is not here means what its nearest ancestor does."""


ABOUT_CLIENT_IDS = ("duplicate", "client order id", "clientorderid", "clordid", "client_oid")
"""Venues say of a name that is taken already what ccxt sorts under orders that are not valid."""


def meaning_of(error: BaseException) -> Meaning:
    if any(sign in str(error).lower() for sign in ABOUT_CLIENT_IDS):
        return _M.UNKNOWN
    for kind in type(error).__mro__:
        if kind.__name__ in MEANING:
            return MEANING[kind.__name__]
    return _M.UNKNOWN


NOT_CONNECTED = frozenset({"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"})
"""Of the library that ccxt sends with: raised before a connection stands."""


def was_never_sent(error: BaseException) -> bool:
    """Somewhere among its causes is that no connection could be made."""
    ahead: list[object] = [error]
    seen = set[int]()
    while ahead:
        each = ahead.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        if type(each).__name__ in NOT_CONNECTED:
            return True
        ahead += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return False
