"""Hold the ledger against what a venue says of an account: repair by proof, raise the rest."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection
from dataclasses import dataclass

from botswarm.clock import Clock
from botswarm.domain.fill import Fill
from botswarm.domain.order import OrderState
from botswarm.domain.reconciliation import Adjustment, Difference, Fate, Kind, Reconciliation
from botswarm.exchanges.base import TradingVenue
from botswarm.trading import executor
from botswarm.trading.accounts import Accounts
from botswarm.trading.books import Books
from botswarm.trading.look import Look, Seen, Wait, pages_after
from botswarm.trading.settle import EMPTY_ROUNDS_APART_S

logger = logging.getLogger(__name__)

LOOKS_MAX = 3
LOOKS_APART_S = EMPTY_ROUNDS_APART_S
DIFFERENCES_KEPT = 50
EVIDENCE_FILLS = 500
"""So many of a market's latest fills are held against the venue's to say what it changed."""
EVIDENCE_SHOWN = 3


def reconcile(
    books: Books, accounts: Accounts, venue: TradingVenue, clock: Clock, wait: Wait
) -> Reconciliation:
    """Compare an account with its venue and write down what came of it.

    Harmless at any time, in any number, and to die in: whatever it books is booked once. A
    difference counts only when two looks, LOOKS_APART_S apart, saw the very same, all fills
    booked that had become known in between: the venue trades on while it answers. Raises
    Unreachable where the venue does not answer; what was known of the account stays as it is.
    """
    began, seen = clock.monotonic(), Seen()
    look = Look(books, accounts, venue, clock, wait, seen)
    before, agreed = look.look(), list[Difference]()
    for _ in range(LOOKS_MAX - 1):
        if len(agreed) == len(before):
            break
        wait(LOOKS_APART_S)
        known = {each.identity for each in before}
        before = look.look()
        agreed = [each for each in before if each.identity in known]
    undecided = [each for each in before if each not in agreed]
    found = _Fates(look).decide(agreed)
    facts = list(seen.facts.values())
    counts = {**seen.counts, "differences": len(found), "facts": len(facts)}
    done = Reconciliation(
        venue=venue.name,
        account=venue.account,
        at=clock.now(),
        differences=(*found, *facts[:DIFFERENCES_KEPT]),
        undecided=tuple(undecided),
        counts=counts | {"took_ms": round((clock.monotonic() - began) * 1000)},
        marks=seen.marks,
    )
    accounts.conclude(done)
    _tell(done)
    return done


@dataclass(frozen=True, slots=True)
class _Fates:
    """What becomes of the differences that two looks agreed on."""

    look: Look

    def decide(self, agreed: Collection[Difference]) -> list[Difference]:
        if not agreed:
            return []
        own = self.look.accounts.own_assets(*self.look.place)
        accepted = self.look.accounts.accepted(*self.look.place)
        return [self._decided(each, own, accepted) for each in agreed]

    def _decided(
        self, each: Difference, own: Collection[str], accepted: Collection[str]
    ) -> Difference:
        if each.kind is Kind.MISSING:
            return self._ended(each)
        if each.asset is not None and each.asset not in own:
            return self._external(each)
        if each.asset is not None:
            return dataclasses.replace(each, words=each.words + self._evidence(each.asset))
        if each.subject in accepted:
            return dataclasses.replace(each, fate=Fate.NOTED)
        return each

    def _ended(self, each: Difference) -> Difference:
        """Neither the order nor a fill that is not booked, in two looks: it has ended."""
        order, at = self.look.seen.absent[each.subject], self.look
        reason = "proven: the venue does not have it any more, and all its fills are booked"
        moved = executor.move(at.books, order, OrderState.EXPIRED, at.clock.now(), reason=reason)
        words = f"{each.words}: {'ended here, too' if moved else 'it has moved on meanwhile'}"
        return dataclasses.replace(each, words=words, fate=Fate.REPAIRED)

    def _external(self, each: Difference) -> Difference:
        assert each.asset is not None
        assert each.amount is not None
        at = self.look
        reason = "somebody else's: no order of ours ever moved this asset"
        adjustment = Adjustment(
            kind=Kind.EXTERNAL.value,
            asset=each.asset,
            amount=each.amount,
            reason=reason,
            reference=f"{each.asset} seen at {at.clock.now().isoformat()}",
        )
        at.accounts.adjust(*at.place, [adjustment], at.clock.now())
        words = f"{each.words}; {reason}"
        return dataclasses.replace(each, kind=Kind.EXTERNAL, fate=Fate.REPAIRED, words=words)

    def _evidence(self, asset: str) -> str:
        """Trades that the venue tells otherwise now than when they were booked."""
        at, found = self.look, list[str]()
        for symbol in at.accounts.markets(*at.place):
            if asset in symbol.split("-"):
                found += self._changed(symbol)
        if not found:
            return ", and no fill says why"
        more = f" and {len(found) - EVIDENCE_SHOWN} more" if len(found) > EVIDENCE_SHOWN else ""
        return f"; the venue has changed {', '.join(found[:EVIDENCE_SHOWN])}{more}"

    def _changed(self, symbol: str) -> list[str]:
        at = self.look
        kept = at.accounts.kept(*at.place, symbol, EVIDENCE_FILLS)
        if not kept:
            return []
        told = {
            fill.trade_id: fill
            for page in pages_after(at.venue, symbol, kept[0].trade_id - 1)
            for fill in page
        }
        return [
            f"trade {fill.trade_id} of {symbol}, {_changed_to(fill, told.get(fill.trade_id))}"
            for fill in kept
            if told.get(fill.trade_id) != fill
        ]


def _changed_to(kept: Fill, told: Fill | None) -> str:
    if told is None:
        return f"{kept.quantity:f} at {kept.price:f}, which it does not have any more"
    return f"from {kept.quantity:f} at {kept.price:f} to {told.quantity:f} at {told.price:f}"


def _tell(done: Reconciliation) -> None:
    about = {"venue": done.venue, "account": done.account}
    name = f"{done.venue}:{done.account}"
    for each in done.differences:
        level = logging.ERROR if each.fate is Fate.RAISED else logging.INFO
        words = "%s %s, %s: %s %s"
        logger.log(level, words, name, each.fate, each.kind, each.subject, each.words, extra=about)
    for each in done.undecided:
        words = "%s keeps moving, so it was not decided: %s %s"
        logger.warning(words, name, each.subject, each.words, extra=about)
