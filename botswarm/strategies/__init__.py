"""Strategies: pure functions from what a bot is shown to what it wants, with the reasons why."""
