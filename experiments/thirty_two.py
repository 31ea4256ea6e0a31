"""A campaign of 32 candidates at the budget that the proxy study recommends.

  python launch/search.py --config=experiments/thirty_two.py --workdir=DIR

GRPO is the root. Eight rounds of four race over `smoke`, `quarter` and
`standard`; at most three are confirmed on fresh seeds and problems at `confirm`,
and what holds is asked again from another base policy and taken apart. Less
than an hour on two cores unless something holds; `--plan_only` says more. What
came of it is in thirty_two.md.
"""

from poise_jax.discovery import search


def get_config() -> search.SearchConfig:
  return search.SearchConfig(
      name="thirty_two",
      budget="standard",
      root="grpo",
      root_seeds=4,
      rounds=8,
      parents=3,
      children=4,
      max_seeds=4,
      finalists=3,
      confirm_budget="confirm",
      confirm_seeds=16,
  )
