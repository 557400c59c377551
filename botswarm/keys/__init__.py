"""The keys of exchange accounts, which nothing outside this room sees unless it must sign."""
