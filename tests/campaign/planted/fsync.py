"""A commit is acknowledged before it is written down: a killed database forgets it."""

from __future__ import annotations

from typing import Any

from botswarm.ledger import session


def forget(cursor: Any) -> None:
    cursor.execute("SET synchronous_commit = off")


session._refuse_forgetful = forget
