"""Real processes, real servers, a steady load of orders, and everything broken in turn."""
