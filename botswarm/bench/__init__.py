"""How fast and how heavy the engine is on this machine, measured beside what it replaces."""
