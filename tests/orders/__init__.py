"""The order path against what it really talks to, and the fakes held to the same answers."""
