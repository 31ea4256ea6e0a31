"""The catalogue's baselines and the canaries, side by side, without a search.

  python launch/search.py --config=experiments/baselines.py --workdir=DIR \
      --config.budget=standard --config.name=baselines-standard

Four seeds each. With `quick` about 2 minutes on two cores, with `standard` 4,
with `confirm` 6. The figures that came out are in the README.
"""

from poise_jax.discovery import search


def get_config() -> search.SearchConfig:
  return search.SearchConfig(
      name="baselines",
      budget="standard",
      root="grpo",
      baselines=(
          "dr_grpo",
          "bn_grpo",
          "vm_av_grpo",
          "grpo_format_penalty",
          "rloo",
          "dapo",
          "av_grpo",
      ),
      root_seeds=4,
      rounds=0,
      child_seeds=1,
  )
