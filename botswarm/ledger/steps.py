"""An order's next steps: its row is read under lock, and changed once at the end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from sqlalchemy import Row, Select, bindparam, select, update
from sqlalchemy.orm import Session

from botswarm.domain.order import Order, OrderState
from botswarm.ledger.fold import EXACT
from botswarm.ledger.models import OrderEventRow, OrderRow
from botswarm.ledger.prepared import PREPARED
from botswarm.ledger.rows import counts_as_open, order_of
from botswarm.ledger.writes import Writes

_orders = OrderRow.__table__.columns
COLUMNS = tuple(column for column in _orders if column.name != "evaluation")
VERDICT = OrderRow.evaluation["verdict"].as_string().label("verdict")
"""Why its bot wanted it, in words; the rest of the evaluation is long, and for people."""
OF_THE_ORDER = (
    *("state", "reason", "venue_order_id", "filled_quantity"),
    *("quantity", "limit_price", "stop_price"),
)
OF_THE_ROAD = ("attempts", "trade_id_floor", "approved_at", "sent_at")
_SAVE = (
    update(OrderRow)
    .where(OrderRow.id == bindparam("which"))
    .values(
        {
            name: bindparam(f"new_{name}", type_=_orders[name].type)
            for name in (*OF_THE_ORDER, *OF_THE_ROAD, "updated_at", "is_open")
        }
    )
)
_BY_ID: Select[Any] = (
    select(*COLUMNS, VERDICT)
    .where(OrderRow.id == bindparam("which"))
    .with_for_update()
    .execution_options(**PREPARED)
)
_BY_NAME: Select[Any] = (
    select(*COLUMNS, VERDICT)
    .where(OrderRow.client_order_id.in_(bindparam("names", expanding=True)))
    .order_by(OrderRow.id)
    .with_for_update()
)


@dataclass(slots=True, eq=False, kw_only=True)
class Step:
    """An order as it will stand; nothing is changed before ``write``."""

    order: Order
    now: datetime
    attempts: int
    trade_id_floor: int | None
    approved_at: datetime | None
    sent_at: datetime | None
    _events: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, row: Row[Any], now: datetime) -> Self:
        road = {name: getattr(row, name) for name in OF_THE_ROAD}
        return cls(order=order_of(row), now=now, **road)

    def change(self, **values: Any) -> None:
        self.order = replace(self.order, **values)

    def move(self, after: OrderState, reason: str | None = None) -> None:
        """Along the table of states; raises IllegalTransition."""
        self.order.check(after)
        self._events.append(
            {
                "order_id": self.order.id,
                "before": self.order.state.value,
                "after": after.value,
                "at": self.now,
                "reason": reason,
                "venue_order_id": self.order.venue_order_id,
            }
        )
        self.change(state=after, reason=self.order.reason if reason is None else reason)

    def fill(self, quantity: Decimal) -> None:
        self.change(filled_quantity=EXACT.add(self.order.filled_quantity, quantity))

    def write(self, writes: Writes) -> None:
        order = self.order
        values = {name: getattr(order, name) for name in OF_THE_ORDER}
        values |= {name: getattr(self, name) for name in OF_THE_ROAD}
        values["state"] = order.state.value
        values["updated_at"] = self.now
        values["is_open"] = counts_as_open(order.state, order.filled_quantity, order.quantity)
        news = {f"new_{name}": value for name, value in values.items()}
        writes.run(_SAVE, news | {"which": order.id})
        writes.insert(OrderEventRow, self._events)
        writes.touch(order.bot)


def held_order(session: Session, order_id: str) -> Row[Any] | None:
    """Locked until the transaction ends."""
    return session.connection().execute(_BY_ID, {"which": order_id}).one_or_none()


def held_orders(session: Session, client_order_ids: Collection[str]) -> Sequence[Row[Any]]:
    """By rising id, so that nobody waits in a circle."""
    names = {"names": sorted(client_order_ids)}
    return session.connection().execute(_BY_NAME, names).all()
