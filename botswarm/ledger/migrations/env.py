"""What Alembic runs: it works on the connection that botswarm.ledger.migrate hands it."""

from __future__ import annotations

from alembic import context

from botswarm.ledger import (  # noqa: F401 - their tables are part of the whole
    account_models,
    alert_models,
    backup_models,
    control_models,
    risk_models,
    schedule_models,
    stop_models,
    sweep_models,
)
from botswarm.ledger.models import Table


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        # SQL on paper (--dry-run): there is a dialect and no database.
        context.configure(
            dialect_name=context.config.attributes["dialect"],
            target_metadata=Table.metadata,
            literal_binds=True,
        )
    else:
        context.configure(
            connection=connection,
            target_metadata=Table.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            transactional_ddl=True,
            user_module_prefix="columns.",
        )
    with context.begin_transaction():
        context.run_migrations()


run()
