"""What is wrong, who is told of it, and what they do then."""
