"""Training: losses, steps, state, the loop, checkpoints, several devices."""
