"""How the swarm is: checks of what it needs, and the port on which each process answers."""
