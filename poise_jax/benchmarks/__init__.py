"""Fixed workloads, timed: losses, training and rollout, candidates."""
