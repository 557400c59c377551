"""Open orders are found among all there ever were: what the order path asks costs no more later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event

from botswarm.ledger.store import Ledger
from tests.ledger.conftest import ACCOUNT, SYMBOL, VENUE, sent


@pytest.mark.parametrize(
    "ask",
    [
        sent,
        lambda ledger: ledger.books.approved(VENUE, ACCOUNT),
        lambda ledger: ledger.books.unsettled(VENUE, ACCOUNT),
        lambda ledger: ledger.books.in_doubt(VENUE, ACCOUNT),
        lambda ledger: ledger.books.to_cancel(VENUE, ACCOUNT),
        lambda ledger: ledger.books.last_trade_id(VENUE, ACCOUNT, SYMBOL),
    ],
    ids=["begin", "approved", "unsettled", "in_doubt", "to_cancel", "last_trade_id"],
)
def test_no_question_of_the_order_path_looks_at_every_order_there_ever_was(
    quick_ledger: Ledger, ask: Callable[[Ledger], object]
) -> None:
    asked: list[tuple[str, Any]] = []

    def hear(_: object, __: object, statement: str, values: Any, *___: object) -> None:
        asked.append((statement, values))

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        ask(quick_ledger)
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    plans = []
    with quick_ledger.database.connection() as connection:
        for statement, values in asked:
            if " orders" in statement and not statement.startswith("INSERT"):
                told = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                plans += [row.detail for row in told]
    assert any("SEARCH orders" in each for each in plans)
    assert not [each for each in plans if each.startswith("SCAN orders")]
