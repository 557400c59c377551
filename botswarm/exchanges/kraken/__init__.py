"""Kraken's spot market: WebSocket v2 and its public REST."""
