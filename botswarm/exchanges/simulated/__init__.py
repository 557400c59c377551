"""The simulated exchange: one matching engine for paper trading, backtests and a Binance server."""
