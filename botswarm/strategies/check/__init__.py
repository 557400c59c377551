"""What makes a strategy unfit is found before a bot runs on it: read, then tried out."""
