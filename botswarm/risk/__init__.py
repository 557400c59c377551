"""Yes or no, by pure functions: what stands between a decision and a venue."""
