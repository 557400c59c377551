"""What a fresh checkout needs before the project itself can be imported."""
