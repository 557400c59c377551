"""Any other venue, through ccxt: an optional extra, and what it cannot promise written down."""
