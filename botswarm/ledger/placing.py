"""An order on its way out: judged, rounded, frozen and committed in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import and_, bindparam, select
from sqlalchemy.orm import Session

from botswarm.domain.instrument import Instrument
from botswarm.domain.order import Order, OrderState
from botswarm.domain.permission import (
    Approved,
    Exposure,
    Frozen,
    FrozenRequest,
    Refused,
    TradingState,
    Verdict,
)
from botswarm.ledger import breaches, replacing
from botswarm.ledger.exposing import exposure_of
from botswarm.ledger.models import AccountRow, AttemptRow, InstrumentRow, OrderRow
from botswarm.ledger.prepared import PREPARED
from botswarm.ledger.rows import INSTRUMENT_FIELDS
from botswarm.ledger.standing import hold_account, is_awaited, objection_of
from botswarm.ledger.steps import COLUMNS, Step
from botswarm.ledger.writes import Writes

Judge = Callable[[Order, Exposure], Verdict]
Request = TypeVar("Request", bound=FrozenRequest)
Freeze = Callable[[Order, Instrument | None], Frozen[Request] | Refused | None]
Begun = Approved | Refused | Frozen[Request]

_CLAIM = (
    select(
        *COLUMNS,
        AccountRow.is_clean,
        AccountRow.reconciled_at,
        *(getattr(InstrumentRow, name).label(f"market_{name}") for name in INSTRUMENT_FIELDS),
    )
    .join(
        AccountRow,
        and_(AccountRow.venue == OrderRow.venue, AccountRow.account == OrderRow.account),
    )
    .outerjoin(
        InstrumentRow,
        and_(InstrumentRow.venue == OrderRow.venue, InstrumentRow.symbol == OrderRow.symbol),
    )
    .where(OrderRow.id == bindparam("which"))
    # In this order everywhere, so that nobody waits in a circle.
    .with_for_update(of=[AccountRow, OrderRow])
    .execution_options(**PREPARED)
)


def begin(
    session: Session,
    order_id: str,
    judge: Judge,
    freeze: Freeze[Request] | None,
    now: datetime,
    before: OrderState,
) -> Begun[Request] | None:
    """See botswarm.trading.books.Books.begin."""
    claimed = claim(session, order_id, now)
    if claimed is None or claimed.state != before:
        return None
    if before is OrderState.READY and _waits_for_another(session, claimed, now):
        return None
    step = Step.of(claimed, now)
    writes = Writes(session)
    begun = _decide(session, writes, claimed, step, judge, freeze)
    if begun is not None and step.order.state is not before:
        step.write(writes)
        writes.send()
    return begun


def claim(session: Session, order_id: str, now: datetime) -> Any:
    """Its row with its account's, both locked until the transaction ends; None without one."""
    connection = session.connection()
    claimed = connection.execute(_CLAIM, {"which": order_id}).one_or_none()
    if claimed is None and (row := session.get(OrderRow, order_id)) is not None:
        # The first order of its account: nobody had to lock it before.
        hold_account(session, row.venue, row.account, now)
        claimed = connection.execute(_CLAIM, {"which": order_id}).one_or_none()
    return claimed


def _waits_for_another(session: Session, claimed: Any, now: datetime) -> bool:
    if claimed.replaces is None:
        return False
    row = session.get_one(OrderRow, claimed.id, populate_existing=True)
    return replacing.is_waiting(session, row, now)


def _decide(
    session: Session,
    writes: Writes,
    claimed: Any,
    step: Step,
    judge: Judge,
    freeze: Freeze[Request] | None,
) -> Begun[Request] | None:
    is_waiting = is_awaited(claimed, step.now)
    if step.now >= claimed.signal_expires_at:
        return _ended(step, OrderState.STALE, _too_old(step, is_waiting))
    is_new = step.order.state is OrderState.READY
    if is_new and not is_waiting and (objection := _take_over(session, step)):
        return _ended(step, OrderState.REFUSED, objection)
    exposure, floor = exposure_of(session, step)
    if not is_new and exposure.trading_state is TradingState.HALTED:
        return None
    verdict = judge(step.order, exposure)
    breaches.note(session, verdict, step.now)
    if isinstance(verdict, Refused):
        return _ended(step, OrderState.REFUSED, verdict.reason)
    if is_waiting:
        # It waits as it is: its doorbell rings again until the account was looked at.
        return None
    if not claimed.is_clean:
        account = session.get_one(AccountRow, (claimed.venue, claimed.account))
        if objection := objection_of(account):
            return _ended(step, OrderState.REFUSED, objection)
    frozen = freeze(step.order, _instrument_of(claimed)) if freeze is not None else None
    if isinstance(frozen, Refused):
        return _ended(step, OrderState.REFUSED, frozen.reason)
    if is_new:
        step.move(OrderState.APPROVED)
        step.approved_at = step.now
    if frozen is None:
        return Approved(step.order)
    _freeze(writes, step, frozen.order, frozen.request, floor)
    return Frozen(step.order, frozen.request)


def _too_old(step: Step, is_waiting: bool) -> str:
    if step.order.state is OrderState.APPROVED:
        return "its signal grew old before it left"
    reason = "its signal was too old to be acted on"
    return reason + (": it waited for the account to be compared with its venue" * is_waiting)


def _ended(step: Step, after: OrderState, reason: str) -> Refused:
    step.move(after, reason)
    return Refused(step.order, reason)


def _take_over(session: Session, step: Step) -> str | None:
    if step.order.replaces is None:
        return None
    row = session.get_one(OrderRow, step.order.id)
    objection = replacing.take_over(session, row)
    session.flush()
    step.change(quantity=row.quantity)
    return objection


def _freeze(
    writes: Writes, step: Step, order: Order, request: FrozenRequest, floor: int | None
) -> None:
    assert order.quantity <= step.order.quantity, "more would be sent than was judged"
    step.change(quantity=order.quantity, limit_price=order.limit_price, stop_price=order.stop_price)
    step.attempts += 1
    if step.attempts == 1:
        step.trade_id_floor = floor
    step.sent_at = step.now
    step.move(OrderState.SENDING)
    attempt = {
        "order_id": order.id,
        "number": step.attempts,
        "payload": request.payload,
        "signed_at": request.signed_at,
        "fence_at": request.fence_at,
        "created_at": step.now,
    }
    writes.insert(AttemptRow, [attempt])


def _instrument_of(claimed: Any) -> Instrument | None:
    if claimed.market_symbol is None:
        return None
    return Instrument(**{name: getattr(claimed, f"market_{name}") for name in INSTRUMENT_FIELDS})
