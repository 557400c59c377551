"""Runs the Procfile's processes on one machine, in order, and keeps them running."""
