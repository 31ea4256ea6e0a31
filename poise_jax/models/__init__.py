"""The policy: Qwen2, Qwen3 and Llama, from Hugging Face and back."""
