"""What several methods share: the ascent, starts, linear response."""
