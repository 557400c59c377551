"""The order path in one process and no time: real code, and everything around it simulated."""
