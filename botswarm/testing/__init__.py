"""What tests and benches stand on: real servers started for them, and ended with them."""
