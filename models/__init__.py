"""Component families of the mixtures, one in each file."""
