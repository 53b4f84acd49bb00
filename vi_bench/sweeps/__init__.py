"""Many runs: grids of them, and the folder in which they survive anything."""
