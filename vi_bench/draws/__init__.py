"""Posterior draws as other programs write them."""
