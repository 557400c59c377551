"""All that is known of venues, and the one simulator."""
