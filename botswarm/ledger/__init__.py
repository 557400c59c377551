"""What is true and durable: bots, orders, fills and the money they moved, in one database."""
