"""Settings for all tests: the CPU, compiled fast rather than to be fast."""

import os

# Must be set before jax is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
