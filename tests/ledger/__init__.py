"""The ledger, the same tests on SQLite and on PostgreSQL."""
