"""Arrays in, arrays out: the physics and the solvers. No paths, no nibabel, no logging, no configuration."""
