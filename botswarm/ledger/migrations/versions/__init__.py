"""One file per step, in the order their names say."""
