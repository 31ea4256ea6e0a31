"""Trains the shipped policy on the embedded task with one algorithm.

  python launch/train.py --config=experiments/train_embedded.py --workdir=DIR \
      [--config.algorithm=vm_av_grpo] [--config.KEY=VALUE ...]

The `standard` budget of the searches: 18 rollouts of 24 prompts x 8
completions, 8 updates each. About a minute on two cores. Expected:
`eval/overall` near 59 for grpo, from 34.4 (see the table in README.md).
"""

import ml_collections

from poise_jax.models import lora
from poise_jax.tasks import arithmetic


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.policy = "embedded"  # or a Hugging Face directory of its kind
  config.algorithm = "grpo"  # a name in the catalogue
  config.train = ml_collections.ConfigDict(
      {
          "steps": 18,
          "prompts": 24,
          "group_size": 8,
          "epochs": 2,
          "minibatches": 4,
          "completion_length": arithmetic.COMPLETION_LENGTH,
          "temperature": 1.0,
          "top_k": 0,  # all tokens
          "top_p": 1.0,
          "learning_rate": 2e-4,
          "final_learning_rate": 0.1,
          "warmup_steps": 0,
          "b1": 0.9,
          "b2": 0.99,
          "weight_decay": 0.0,
          "max_grad_norm": 1.0,
          "sampling_attempts": 1,
          "reference": True,
          "recompute_old": False,
          "micro_batches": 1,
          # A rank of 0 trains every weight.
          "lora": {
              "rank": 0,
              "alpha": 32.0,
              "targets": lora.PROJECTIONS,
              "seed": 0,
          },
      }
  )
  config.scoring = ml_collections.ConfigDict(
      {"chunk": 0, "compute_dtype": "float32", "remat": "none", "scan": False}
  )
  config.schedule = ml_collections.ConfigDict(
      {"segment": 0, "prompts_at_once": 0}
  )
  config.mesh = ml_collections.ConfigDict({"data": 1, "fsdp": 1, "tensor": 1})
  config.run = ml_collections.ConfigDict(
      {
          "seed": 0,
          "checkpoint_every": 5,
          "evaluate_every": 0,
          "completions": 4,
      }
  )
  config.retention = ml_collections.ConfigDict(
      {"last": 2, "best": 1, "metric": "reward", "larger_is_better": True}
  )
  config.evaluate = ml_collections.ConfigDict(
      {"sampled_problems": 192, "greedy_problems": 384}
  )
  return config
