"""The flax policy: Qwen2, and Hugging Face checkpoints in and out."""
