"""The harness and the machine: JAX, caches, random keys, files, processes."""
