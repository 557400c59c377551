"""The limits that were set, as this process remembers them: never past a change of any of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from botswarm.domain.limits import Limit
from botswarm.errors import Refused
from botswarm.ledger.limits import said_of

Scopes = tuple[str, ...]
CHAINS_MAX = 20_000


@dataclass(slots=True)
class Known:
    """Of one database at one revision, by the scopes that were asked for."""

    revision: int
    limits: dict[Scopes, tuple[Limit, ...]] = field(default_factory=dict)


_known: WeakKeyDictionary[Engine, Known] = WeakKeyDictionary()
_lock = threading.Lock()


def limits_at(session: Session, revision: int | None, scopes: Scopes) -> tuple[Limit, ...]:
    """``revision`` was read in this transaction; what was remembered at another is forgotten.

    Raises Refused where the ledger does not say how often its limits have changed: then nobody
    knows them.
    """
    if revision is None:
        raise Refused(
            "the ledger does not know its limits: limit_revision is empty",
            cure="restore it from a backup; no order passes meanwhile",
        )
    engine = session.get_bind().engine
    with _lock:
        known = _known.get(engine)
        if known is not None and known.revision == revision and scopes in known.limits:
            return known.limits[scopes]
    found = tuple(said_of(session, scopes))
    with _lock:
        known = _known.get(engine)
        if known is None or known.revision != revision or len(known.limits) >= CHAINS_MAX:
            known = _known[engine] = Known(revision)
        known.limits[scopes] = found
    return found
