r"""The paper's recipe: Qwen2.5-Math-1.5B on 5,000 problems of MATH.

  python launch/train.py --config=experiments/qwen25_math.py:MESH --workdir=DIR \
      --config.policy=Qwen2.5-Math-1.5B --config.problems.source=FOLDER

MESH is one of

  a100_80gb_8  8 x A100 80GB, one process or one a GPU; with one process set
               XLA_PYTHON_CLIENT_MEM_FRACTION=0.92
  v5e_16       16 TPU v5e chips (4x4), started on every host
  v5p_8        4 TPU v5p chips, which the name counts as 8 cores

`--config.policy` is a local copy of the weights, `FOLDER` holds
math_train_lvl3to5.jsonl (5,560 problems); for a file of your own set
`--config.problems.name=` and let the source be the file. Name files to be
evaluated on as `--config.problems.apart_from="('aime24.jsonl',)"`, and problems
like theirs are left out.

To watch it on 256 problems that it is not trained on, of those that are left of
the set, and to keep the best checkpoint by them:

  --config.problems.held_out=256 --config.run.evaluate_every=10 \
      --config.retention.metric=eval/accuracy

or on a file: --config.problems.evaluate_on=FILE. `--config.train.lora.rank=64`
trains adapters instead of all weights, with a learning rate some ten times
higher (`--config.train.learning_rate=1e-5`).

Whether it fits can be seen without weights, problems or devices:

  python launch/train.py --config=experiments/qwen25_math.py:MESH --dry_run

It compiles every program for the mesh in a minute or two on two cores, and
says, with CPU's compiler in the place of the accelerator's, that at most this
is needed on each device:

  a100_80gb_8  32.4 GB of 80, when the cache of a rollout grows
  v5e_16       13.4 GB of 16, in the backward pass
  v5p_8        35.5 GB of 95, when the cache of a rollout grows

Training itself was not run with these weights on any of these machines, and
there is no score to expect but the paper's: 47.8 overall for GRPO, measured by
its own evaluation. From the paper: learning rate, batch, group, epochs, lengths
and the KL term, whose size it does not give. The template, the clipping (0.2)
and the KL coefficient (0.001) are the usual ones.
"""

import ml_collections

from poise_jax.models import lora
from poise_jax.training import prompts

_PROBLEMS, _PROMPTS, _EPOCHS = 5000, 256, 8

# Name -> kind of device, mesh, parts of an update, and prompts whose
# completions are sampled at once. In every part of an update each device has
# one prompt and its completions; more would not be faster.
_MESHES = {
    "a100_80gb_8": ("NVIDIA A100-SXM4-80GB", (1, 8, 1), 32, 128),
    "v5e_16": ("TPU v5 lite", (1, 8, 2), 32, 64),
    "v5p_8": ("TPU v5", (1, 4, 1), 64, 64),
}


def get_config(mesh: str = "a100_80gb_8") -> ml_collections.ConfigDict:
  if mesh not in _MESHES:
    raise ValueError(
        f"after the colon must stand one of {', '.join(_MESHES)}, got {mesh!r}"
    )
  device, (data, fsdp, tensor), micro_batches, at_once = _MESHES[mesh]
  config = ml_collections.ConfigDict()
  config.policy = ""  # a Hugging Face directory
  config.algorithm = "grpo_poise"
  config.device = device
  config.problems = ml_collections.ConfigDict(
      {
          "source": "",
          "name": "MATH-train",
          "levels": (3, 4, 5),
          "count": _PROBLEMS,
          "seed": 0,
          "template": "qwen_math",
          # The base model knows how a turn ends, but does not say so.
          "stop": ("<|im_end|>",),
          "prompt_length": 1024,
          "prompt_buckets": (128, 256, 512, 1024),
          "apart_from": (),
          "evaluate_on": "",
          "held_out": 0,
          "cut_epochs": True,
          "grade_truncated": False,
          "graders": 8,
          "grading_seconds": 3.0,
      }
  )
  epoch = prompts.epoch_size(_PROBLEMS, _PROMPTS)
  config.train = ml_collections.ConfigDict(
      {
          "steps": prompts.steps(_EPOCHS, epoch, _PROMPTS),  # 152
          "prompts": _PROMPTS,
          "group_size": 8,
          "epochs": 1,  # of each rollout
          "minibatches": 1,
          "completion_length": 3000,
          "temperature": 1.0,
          "top_k": 0,  # all tokens
          "top_p": 1.0,
          "learning_rate": 1e-6,
          "final_learning_rate": 1.0,
          "warmup_steps": 0,
          "b1": 0.9,
          "b2": 0.999,
          "weight_decay": 0.01,
          "max_grad_norm": 1.0,
          "sampling_attempts": 1,
          "reference": True,
          # The sampler sums in another order, in bf16: its log-probabilities
          # are not quite the trainer's.
          "recompute_old": True,
          "micro_batches": micro_batches,
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
      {
          "chunk": 64,
          "compute_dtype": "bfloat16",
          "remat": "block",
          "scan": True,
      }
  )
  config.schedule = ml_collections.ConfigDict(
      {"segment": 256, "prompts_at_once": at_once}
  )
  config.mesh = ml_collections.ConfigDict(
      {"data": data, "fsdp": fsdp, "tensor": tensor}
  )
  config.run = ml_collections.ConfigDict(
      {
          "seed": 0,
          "checkpoint_every": 10,
          "evaluate_every": 0,
          "completions": 8,
      }
  )
  config.retention = ml_collections.ConfigDict(
      {"last": 2, "best": 1, "metric": "reward", "larger_is_better": True}
  )
  # As published in its config.json, for a dry run without it.
  config.architecture = ml_collections.ConfigDict(
      {
          "model_type": "qwen2",
          "vocab_size": 151936,
          "hidden_size": 1536,
          "intermediate_size": 8960,
          "num_hidden_layers": 28,
          "num_attention_heads": 12,
          "num_key_value_heads": 2,
          "max_position_embeddings": 4096,
          "rope_theta": 10000.0,
          "rms_norm_eps": 1e-6,
          "tie_word_embeddings": True,
      }
  )
  return config
