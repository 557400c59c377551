"""Who is running: bots as people write them, as the ledger keeps them, and why they do what."""
