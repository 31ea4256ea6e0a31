"""The smallest campaign that is real in every part.

  python launch/search.py --config=experiments/quickstart.py --workdir=DIR

GRPO is the root; two canaries and two clones, then nine generated candidates in
three rounds, which race over the budgets `smoke`, `quarter` and `quick`; at
most one is confirmed on fresh seeds and problems, and not taken apart. Some eight minutes on two
cores. Expected: GRPO near 55, `zero_gradient` near 36 (the base policy),
`sign_flipped` below 10.
"""

from poise_jax.discovery import explaining, search


def get_config() -> search.SearchConfig:
  return search.SearchConfig(
      name="quickstart",
      budget="quick",
      root="grpo",
      root_seeds=2,
      rounds=3,
      parents=3,
      children=3,
      max_seeds=3,
      finalists=1,
      confirm_budget="quick",
      confirm_seeds=12,
      explain=explaining.Plan(ablation_trials=0, settings=0, hard_seeds=0),
  )
