"""A campaign for shorter answers: the length branch, steered in plain language.

  python launch/search.py --config=experiments/shorter.py --workdir=DIR

GRPO is the root; the directive asks for fewer tokens at no loss of accuracy.
The paper's answer to that was to count length among correct answers only, and
only where a group mostly solves its problem (DACE), which runs beside it here.
What came of it is in shorter.md.
"""

from poise_jax.discovery import explaining, search


def get_config() -> search.SearchConfig:
  return search.SearchConfig(
      name="shorter",
      directive="shorter answers without losing accuracy",
      budget="quick",
      root="grpo",
      baselines=("dace",),
      root_seeds=4,
      rounds=6,
      parents=3,
      children=4,
      max_seeds=4,
      finalists=2,
      confirm_budget="quick",
      confirm_seeds=80,  # To show that 2 % of Overall are not lost.
      explain=explaining.Plan(settings=0, hard_seeds=0),
  )
