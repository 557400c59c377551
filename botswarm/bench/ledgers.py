"""A fresh ledger on either database, for as long as something is measured on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from botswarm.ledger import migrate
from botswarm.ledger.store import Ledger
from botswarm.testing.servers import PostgreSQLServer


@contextmanager
def fresh_ledger(kind: str) -> Iterator[Ledger]:
    """``kind`` is ``postgresql`` or ``sqlite``; all tables are there, and empty."""
    with ExitStack() as stack:
        if kind == "postgresql":
            server = stack.enter_context(PostgreSQLServer())
            url = server.ledger_url()
        else:
            folder = stack.enter_context(TemporaryDirectory(prefix="botswarm-bench-"))
            url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        ledger = Ledger(url)
        stack.callback(ledger.close)
        migrate.migrate(ledger.database)
        yield ledger
