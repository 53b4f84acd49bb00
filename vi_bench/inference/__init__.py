"""Inference that methods share: coordinate ascent, starts, linear response."""
