"""The exact posterior of small mixtures, by summing over assignments."""
