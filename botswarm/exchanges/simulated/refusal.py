"""What the exchange says when it does not do what was asked, in Binance's codes and words."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """Nothing was changed. ``status`` is the HTTP status that carries it."""

    def __init__(
        self, code: int, text: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.status = status
        self.headers = dict(headers or {})


def filter_failure(name: str) -> Refusal:
    return Refusal(-1013, f"Filter failure: {name}")


def market_closed(reason: str) -> Refusal:
    return Refusal(-1013, f"Market is closed: {reason}.")


def missing(parameter: str) -> Refusal:
    return Refusal(
        -1102,
        f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.",
    )


def not_required(parameter: str) -> Refusal:
    return Refusal(-1106, f"Parameter '{parameter}' sent when not required.")


def illegal(parameter: str, legal: str) -> Refusal:
    return Refusal(
        -1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{legal}'."
    )


def insufficient_balance() -> Refusal:
    return Refusal(-2010, "Account has insufficient balance for requested action.")


def duplicate_order() -> Refusal:
    return Refusal(-2010, "Duplicate order sent.")


def would_take() -> Refusal:
    return Refusal(-2010, "Order would immediately match and take.")


def would_trigger() -> Refusal:
    return Refusal(-2010, "Stop price would trigger immediately.")


def unknown_order() -> Refusal:
    return Refusal(-2011, "Unknown order sent.")


def no_such_order() -> Refusal:
    return Refusal(-2013, "Order does not exist.")


def invalid_symbol() -> Refusal:
    return Refusal(-1121, "Invalid symbol.")


def execution_unknown() -> Refusal:
    return Refusal(
        -1007,
        "Timeout waiting for response from backend server. "
        "Send status unknown; execution status unknown.",
        status=408,
    )
