"""What the markets look like now: candles from ticks, and the book that strategies look into."""
