"""Prices as they are now, in Redis for whoever looks: a copy that no order depends on."""
