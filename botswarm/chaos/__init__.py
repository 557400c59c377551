"""Breaking things on purpose, and proof that no order was lost or doubled by it."""
