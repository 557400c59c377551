"""What each queue's workers run: one module per queue."""
