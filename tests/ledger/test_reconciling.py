"""What accounts have by the journal, on either database, and who meddles with it is found out."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from botswarm.domain.order import Side
from botswarm.domain.reconciliation import (
    Adjustment,
    Difference,
    Fate,
    Kind,
    Reconciliation,
)
from botswarm.ledger.models import PostingRow
from botswarm.ledger.store import Ledger
from botswarm.ledger.verify import verify
from tests.ledger.conftest import ACCOUNT, NOW, VENUE, a_fill, sent
from tests.ledger.test_verify import found, tamper

D = Decimal
PLACE = (VENUE, ACCOUNT)


@pytest.fixture
def traded(ledger: Ledger) -> Ledger:
    """An account that was opened with money, bought and sold, and paid in a third asset."""
    at = ledger.reconciliations
    assert at.open(*PLACE, {"USDT": D(1000), "BNB": D(1)}, NOW, NOW)
    assert not at.open(*PLACE, {"USDT": D(7)}, NOW, NOW)
    buyer, seller = sent(ledger), sent(ledger, bot="beta", side=Side.SELL)
    ledger.books.book([a_fill(buyer, 1, commission_asset="BNB")], NOW)
    at.conclude(Reconciliation(venue=VENUE, account=ACCOUNT, at=NOW))
    ledger.books.book([a_fill(seller, 2, quantity=D("0.03"), commission=D(0))], NOW)
    assert verify(ledger.database).findings == []
    return ledger


def test_what_an_account_has_is_exact_with_and_without_what_was_summed_before(
    traded: Ledger,
) -> None:
    expected = {"USDT": D("993"), "BNB": D("0.9999"), "BTC": D("0.07")}
    for since in (NOW - timedelta(days=1), NOW + timedelta(seconds=2), NOW + timedelta(days=1)):
        assert traded.reconciliations.reckon(*PLACE, since).balances == expected
    everything = traded.reconciliations.reckon(*PLACE, NOW - timedelta(days=1))
    assert everything.latest == (
        {"BTC": D("-0.03"), "USDT": D(3)},
        {"BTC": D("0.1"), "USDT": D(-10), "BNB": D("-0.0001")},
    )
    recent = traded.reconciliations.reckon(*PLACE, NOW + timedelta(seconds=2))
    assert recent.latest == everything.latest[:1]
    assert traded.reconciliations.reckon(VENUE, "other", NOW).balances == {}


def test_the_same_reference_is_booked_once(traded: Ledger) -> None:
    more = Adjustment(kind="external", asset="XRP", amount=D(5), reason="a gift", reference="g1")
    at = traded.reconciliations
    assert [at.adjust(*PLACE, [more], NOW) for _ in range(2)] == [1, 0]
    assert at.reckon(*PLACE, NOW).balances["XRP"] == D(5)
    assert at.adjust(VENUE, "other", [more], NOW) == 1
    assert verify(traded.database).findings == []


@pytest.mark.parametrize(
    ("statement", "check", "subject"),
    [
        ("UPDATE adjustments SET amount = '9' WHERE asset = 'USDT'", "chain", "entry 2"),
        ("UPDATE adjustments SET reason = 'x' WHERE asset = 'USDT'", "chain", "entry 2"),
        ("UPDATE adjustments SET actor = 'x' WHERE asset = 'BNB'", "chain", "entry 1"),
        ("DELETE FROM adjustments WHERE asset = 'USDT'", "chain", "entry 2"),
        ("UPDATE entries SET fill_id = 99 WHERE sequence = 2", "chain", "entry 2"),
        ("DELETE FROM entries WHERE sequence = 2", "journal", "adjustment 2"),
        ("UPDATE account_folds SET balances = '{}'", "balances", f"{VENUE} {ACCOUNT}"),
        ("UPDATE postings SET amount = '9' WHERE sequence = 2", "balances", f"{VENUE} {ACCOUNT}"),
    ],
)
def test_who_changes_what_an_account_was_given_is_named(
    traded: Ledger, statement: str, check: str, subject: str
) -> None:
    tamper(traded.database, statement)
    assert (check, subject) in found(verify(traded.database))


def test_a_difference_stands_once_changes_and_ends_by_proof(ledger: Ledger) -> None:
    at = ledger.reconciliations

    def conclude(*amounts: str, minutes: int) -> bool:
        raised = tuple(
            Difference(
                kind=Kind.CORRECTION,
                subject="balance of BTC",
                words="differs",
                fate=Fate.RAISED,
                asset="BTC",
                amount=D(amount),
            )
            for amount in amounts
        )
        now = NOW + timedelta(minutes=minutes)
        done = Reconciliation(venue=VENUE, account=ACCOUNT, at=now, differences=raised)
        return at.conclude(done)

    def stands() -> list[tuple[int, Decimal | None]]:
        (stand,) = at.stands()
        return [(each.id, each.amount) for each in stand.raised]

    assert not conclude("1", minutes=1)
    assert not conclude("1", minutes=2)
    assert stands() == [(1, D(1))]
    assert not conclude("2", minutes=3)
    assert stands() == [(2, D(2))]
    assert conclude(minutes=4)
    assert stands() == []
    assert at.accepted(*PLACE) == set()
    assert at.standing(*PLACE).is_clean


@pytest.mark.parametrize("is_external", [False, True])
def test_an_accepted_difference_is_booked_where_it_belongs(
    traded: Ledger, is_external: bool
) -> None:
    at = traded.reconciliations
    difference = Difference(
        kind=Kind.CORRECTION,
        subject="balance of USDT",
        words="differs",
        fate=Fate.RAISED,
        asset="USDT",
        amount=D(-3),
    )
    at.conclude(Reconciliation(venue=VENUE, account=ACCOUNT, at=NOW, differences=(difference,)))
    (stand,) = at.stands()
    ended = at.accept(
        stand.raised[0].id, actor="ann", reason="why", now=NOW, is_external=is_external
    )
    assert (ended.asset, ended.amount) == ("USDT", D(-3))
    assert at.reckon(*PLACE, NOW).balances["USDT"] == D(990)
    where = "external" if is_external else "correction"
    booked = traded.database.read(
        lambda session: session.scalars(
            select(PostingRow.amount).where(
                PostingRow.ledger_account == f"{where}:{VENUE}:{ACCOUNT}"
            )
        ).all()
    )
    assert booked == [D(-3)]
    assert verify(traded.database).findings == []
