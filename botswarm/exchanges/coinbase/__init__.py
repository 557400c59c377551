"""Coinbase's two public sides: Advanced Trade (``coinbase``) and the Exchange behind it."""
