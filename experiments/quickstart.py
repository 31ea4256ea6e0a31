"""The smallest campaign that is real in every part.

  python launch/search.py --config=experiments/quickstart.py --workdir=DIR

GRPO is the root; two canaries, then nine generated candidates in three rounds,
on the `quick` budget. About three minutes on two cores. Expected: GRPO near
55, `zero_gradient` near 36 (the base policy), `sign_flipped` below 10. With
two seeds a candidate, nothing it finds is established.
"""

from poise_jax.discovery import search


def get_config() -> search.SearchConfig:
  return search.SearchConfig(
      name="quickstart",
      budget="quick",
      root="grpo",
      root_seeds=2,
      rounds=3,
      parents=3,
      children=3,
      child_seeds=2,
  )
