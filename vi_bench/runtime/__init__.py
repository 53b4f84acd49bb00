"""What the harness needs of the machine: JAX, caches, keys, files, processes."""
