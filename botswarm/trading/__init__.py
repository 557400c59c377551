"""From a decision to a fill: one path, and nothing is ever sent twice without proof."""
