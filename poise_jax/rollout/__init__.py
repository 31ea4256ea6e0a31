"""A policy and a task in, a RolloutBatch out."""
