"""A RolloutBatch and an Algorithm in, new parameters out."""
