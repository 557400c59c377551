"""Ring the workers for what a command has committed; what is not heard now is rung again."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from botswarm.errors import BotswarmError

if TYPE_CHECKING:
    from botswarm.cli.session import Session
    from botswarm.ledger.outbox import Doorbell
    from botswarm.ledger.store import Ledger

PENDING_MAX = 2000


def ring(session: Session, ledger: Ledger, order_ids: Collection[str]) -> list[str]:
    """The doorbells of these orders; warnings where nobody could be rung for."""
    wanted = set(order_ids)
    pending = ledger.outbox.pending(PENDING_MAX)
    return ring_these(
        session, ledger, [bell for bell in pending if bell.kwargs.get("order_id") in wanted]
    )


def ring_these(session: Session, ledger: Ledger, bells: Collection[Doorbell]) -> list[str]:
    if not bells:
        return []
    try:
        _publish(session, ledger, bells)
    except (BotswarmError, OSError) as error:
        return [
            f"the order workers were not rung ({error}); they are within seconds of running again"
        ]
    return []


def _publish(session: Session, ledger: Ledger, bells: Collection[Doorbell]) -> None:
    from botswarm.cli.amqp import broker_of, channel
    from botswarm.clock import SystemClock
    from botswarm.queueing import make_app
    from botswarm.queueing import ring as publish

    settings = session.settings()
    url, _, hint = broker_of(session)
    # Celery would go on trying where nobody answers.
    with channel(url, start_hint=hint):
        pass
    app = make_app(settings, set_as_current=False)

    try:
        ledger.outbox.ring(list(bells), partial(publish, app=app), SystemClock().now())
    finally:
        with contextlib.suppress(Exception):
            app.close()
