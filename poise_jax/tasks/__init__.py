"""Prompts in, rewards out; knows nothing of jax."""
