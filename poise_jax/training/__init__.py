"""A RolloutBatch and an Algorithm in, new parameters out.

`train` is `run.train`: a whole run in a directory.
"""

from typing import Any


def __getattr__(name: str) -> Any:
  # Not imported with the package: it takes orbax along.
  if name == "train":
    from poise_jax.training import run

    return run.train
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
