"""The whole catalogue on the embedded suite, five seeds each: the yardstick.

  python launch/sweep.py --config=experiments/catalogue_table.py --workdir=DIR

64 algorithms, the two canaries among them, on the `standard` budget, scored on
the `confirm` problems and with seeds that no search has seen, each compared
with GRPO seed by seed. About 45 minutes on two cores; stopped or killed, the
same command continues. What came out is in catalogue_table.md and .csv.

A discovery is measured against it by the same command in the same directory
with `--sweep="algorithm=grpo,FILE.py;seed=1000:1005"`: cells that are there
are not trained again.
"""

import ml_collections

from poise_jax.algorithms import catalog


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.policy = "embedded"
  config.algorithm = "grpo"
  config.train = ml_collections.ConfigDict(
      {
          "steps": 18,
          "prompts": 24,
          "group_size": 8,
          "epochs": 2,
          "minibatches": 4,
          "learning_rate": 2e-4,
      }
  )
  config.evaluate = ml_collections.ConfigDict(
      {"sampled_problems": 192, "greedy_problems": 384}
  )
  config.sweep = f"algorithm={','.join(catalog.names())};seed=1000:1005"
  config.title = "The catalogue on the embedded suite"
  config.baseline = "grpo"
  config.split = "confirm"
  return config
