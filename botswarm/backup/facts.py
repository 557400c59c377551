"""What a ledger says of itself in few words, so that two of them can be held to one another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import inspect, select, text
from sqlalchemy.orm import Session

from botswarm.backup.sealing import Damaged
from botswarm.domain.amount import plain
from botswarm.ledger import balances
from botswarm.ledger.account_models import AccountFoldRow
from botswarm.ledger.models import AccountRow, ChainHeadRow

VERSION_TABLE = "alembic_version"
_VERSION = text("SELECT version_num FROM alembic_version")
SHOWN = 5

# Each entry names the hash of the one before it; the head is the last of them.
_BROKEN_LINKS = text(
    "SELECT count(*) FROM (SELECT sequence, previous_hash, "
    "lag(hash) OVER (ORDER BY sequence) AS before_it, "
    "lag(sequence) OVER (ORDER BY sequence) AS number_before FROM entries) AS links "
    "WHERE before_it IS NOT NULL "
    "AND (before_it <> previous_hash OR number_before <> sequence - 1)"
)
_LAST_ENTRY = text("SELECT sequence, hash FROM entries ORDER BY sequence DESC LIMIT 1")
_ENTRY = text("SELECT hash FROM entries WHERE sequence = :sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Amounts are text, as they are kept."""

    revision: str | None
    chain_sequence: int
    chain_hash: str
    rows: Mapping[str, int]
    """By table."""
    balances: Mapping[str, Mapping[str, str]]
    """What each account has by the journal, by asset."""
    positions: str
    """A hash over what every bot holds."""
    open_orders: Mapping[str, str]
    """Their states, by id."""
    trading: Mapping[str, str]
    """States, by scope."""

    def written(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def read(cls, content: bytes) -> Facts:
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise Damaged("the facts of the backup cannot be read") from error


def of_ledger(session: Session) -> Facts:
    """On one snapshot. Raises Damaged where the chain of the journal is not whole."""
    head = _whole_chain(session)
    connection = session.connection()
    names = sorted(set(inspect(connection).get_table_names()) - {VERSION_TABLE})
    rows = {
        name: int(connection.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one())  # noqa: S608 - the database's own names
        for name in names
    }
    return Facts(
        revision=session.scalars(_VERSION).first(),
        chain_sequence=head[0],
        chain_hash=head[1],
        rows=rows,
        balances=_balances(session),
        positions=_positions(session),
        open_orders={
            row.id: row.state
            for row in session.execute(text("SELECT id, state FROM orders WHERE is_open"))
        },
        trading={
            row.scope: row.state
            for row in session.execute(text("SELECT scope, state FROM trading_states"))
        },
    )


def differences(said: Facts, found: Facts) -> list[str]:
    """What the second does not say as the first does; empty where they agree."""
    left, right = asdict(said), asdict(found)
    words = []
    for name in left:
        if left[name] == right[name]:
            continue
        if isinstance(left[name], dict):
            keys = sorted({*left[name], *right[name]})
            other = [key for key in keys if left[name].get(key) != right[name].get(key)]
            listed = ", ".join(
                f"{key} {left[name].get(key, 'none')} != {right[name].get(key, 'none')}"
                for key in other[:SHOWN]
            )
            words.append(f"{name}: {listed}")
        else:
            words.append(f"{name}: {left[name]} != {right[name]}")
    return words


def holds(session: Session, sequence: int, hashed: str) -> bool:
    """Whether the journal has that entry: a later state of the same ledger."""
    if sequence == 0:
        return True
    return session.execute(_ENTRY, {"sequence": sequence}).scalar() == hashed


def _whole_chain(session: Session) -> tuple[int, str]:
    head = session.get(ChainHeadRow, 1)
    last = session.execute(_LAST_ENTRY).one_or_none()
    if head is None:
        raise Damaged("the ledger has no head of its chain")
    if last is not None and (last.sequence, last.hash) != (head.sequence, head.hash):
        raise Damaged(f"the journal ends at entry {last.sequence}, and its head at {head.sequence}")
    if last is None and head.sequence:
        raise Damaged(f"the journal is empty, and its head at {head.sequence}")
    if broken := session.execute(_BROKEN_LINKS).scalar_one():
        raise Damaged(f"the chain of the journal is broken in {broken} places")
    return head.sequence, head.hash


def _balances(session: Session) -> Mapping[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for venue, account in session.execute(select(AccountRow.venue, AccountRow.account)).all():
        kept = session.get(AccountFoldRow, (venue, account))
        start, after = (balances.of_row(kept), kept.sequence) if kept is not None else ({}, 0)
        now = balances.fold(session, venue, account, start=start, after=after)
        found[f"{venue}:{account}"] = {
            asset: plain(amount) for asset, amount in sorted(now.items())
        }
    return found


def _positions(session: Session) -> str:
    digest = hashlib.sha256()
    question = text(
        "SELECT bot, venue, account, symbol, quantity, cash, cost, realised FROM positions "
        "ORDER BY bot, venue, account, symbol"
    )
    for row in session.execute(question):
        digest.update(json.dumps([_plainly(value) for value in row]).encode() + b"\n")
    return digest.hexdigest()


def _plainly(value: Any) -> str:
    return str(value) if isinstance(value, str) else plain(value)
