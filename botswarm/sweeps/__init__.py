"""Risk sweeps: looks at the whole swarm, again and again, that find what no single order shows."""
