"""Decisions of several passes in one transaction, where they wait for the ledger anyway."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from botswarm.errors import BotswarmError
from botswarm.ledger.bots import Decided, Decision
from botswarm.ledger.columns import NotExact
from botswarm.ledger.outbox import Doorbell

logger = logging.getLogger(__name__)

Decide = Callable[[Sequence[Decision], datetime], Decided]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What became of the decisions of one pass."""

    bots: frozenset[str]
    """Whose decisions count."""
    doorbells: Sequence[Doorbell]
    revisions: Mapping[tuple[str, str], int]
    """Of all markets that were decided on, with the decisions."""
    unfit: Mapping[str, Exception]
    """Whose decisions cannot be written down, and why."""


@dataclass(slots=True, eq=False)
class _Ticket:
    decisions: Sequence[Decision]
    now: datetime
    done: Committed | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Commits:
    """Whoever comes while the ledger is busy is taken along by the next who may write."""

    decide: Decide
    _waiting: list[_Ticket] = field(default_factory=list)
    _queue: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def commit(self, decisions: Sequence[Decision], now: datetime) -> Committed:
        """Returns once they are committed; raises what kept the ledger from it."""
        ticket = _Ticket(decisions, now)
        with self._queue:
            self._waiting.append(ticket)
        with self._turn:
            if ticket.done is None and ticket.error is None:
                with self._queue:
                    together, self._waiting = self._waiting, []
                self._write(together)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.done is not None
        return ticket.done

    def _write(self, tickets: Sequence[_Ticket]) -> None:
        everything = [each for ticket in tickets for each in ticket.decisions]
        # No row may look as if it had been changed after the evaluation that it keeps.
        now = min(ticket.now for ticket in tickets)
        unfit: dict[str, Exception] = {}
        try:
            try:
                done = self.decide(everything, now)
            except Exception as error:
                if isinstance(error, BotswarmError) and not isinstance(error, NotExact):
                    raise  # the ledger's own trouble, and everybody's
                done = self._one_by_one(everything, now, unfit)
        except Exception as error:
            for ticket in tickets:
                ticket.error = error
            return
        for ticket in tickets:
            mine = {each.bot for each in ticket.decisions}
            orders = {order.id for each in ticket.decisions for order in each.orders}
            orders |= {each for one in ticket.decisions for each in one.ending}
            ticket.done = Committed(
                bots=done.bots & mine,
                doorbells=[bell for bell in done.doorbells if bell.kwargs["order_id"] in orders],
                revisions=done.revisions,
                unfit={bot: error for bot, error in unfit.items() if bot in mine},
            )

    def _one_by_one(
        self, decisions: Sequence[Decision], now: datetime, unfit: dict[str, Exception]
    ) -> Decided:
        """One of them cannot be written; the others must not be lost with it."""
        bots: frozenset[str] = frozenset()
        doorbells: tuple[Doorbell, ...] = ()
        revisions: dict[tuple[str, str], int] = {}
        for each in decisions:
            try:
                done = self.decide([each], now)
            except Exception as error:
                if isinstance(error, BotswarmError) and not isinstance(error, NotExact):
                    raise
                unfit[each.bot] = error
                logger.warning("a decision of %s cannot be written: %s", each.bot, error)
            else:
                bots, doorbells = bots | done.bots, doorbells + done.doorbells
                revisions |= done.revisions
        return Decided(bots=bots, doorbells=doorbells, revisions=revisions)
