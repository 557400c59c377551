"""Bugs that a campaign must catch; workers load one of these modules besides their own."""
