"""Training of the networks: streams of simulated samples, losses, the loop, and the recipes of the shipped weights."""
