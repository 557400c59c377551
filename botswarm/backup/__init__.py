"""The ledger written down elsewhere, and brought back: docs/backups.md."""
