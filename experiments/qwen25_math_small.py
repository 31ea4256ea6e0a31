r"""The recipe of qwen25_math.py at a sixteenth of its size, for one machine.

  python launch/train.py --config=experiments/qwen25_math_small.py \
      --workdir=DIR --config.policy=POLICY --config.problems.source=FILE

Everything goes the way of the full recipe: a Hugging Face policy and its
tokenizer, a template around each problem, sampling in segments, bf16 with f32
weights, micro-batches, chunked logits, scanned layers, graded text. Batch and
completions are a sixteenth (16 prompts x 8, up to 188 tokens), for a policy of
a sixteenth of the width. FILE has one object a line with `problem` and
`answer`. With random weights nothing is ever right, and the run shows that
everything works; a policy of your own may learn.

  python launch/train.py --config=experiments/qwen25_math_small.py --dry_run
"""

import ml_collections

from poise_jax.models import lora


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.policy = ""  # a Hugging Face directory
  config.algorithm = "grpo_poise"
  config.device = ""
  config.problems = ml_collections.ConfigDict(
      {
          "source": "",
          "name": "",
          "levels": (),
          "count": 0,
          "seed": 0,
          "template": "qwen_math",
          "stop": (),
          "prompt_length": 512,
          "prompt_buckets": (128, 256, 512),
          "apart_from": (),
          "evaluate_on": "",
          "held_out": 0,
          "cut_epochs": True,
          "grade_truncated": False,
          "graders": 1,
          "grading_seconds": 3.0,
      }
  )
  config.train = ml_collections.ConfigDict(
      {
          "steps": 10,
          "prompts": 16,
          "group_size": 8,
          "epochs": 1,
          "minibatches": 1,
          "completion_length": 188,
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
          "recompute_old": True,
          "micro_batches": 2,
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
          "chunk": 16,
          "compute_dtype": "bfloat16",
          "remat": "block",
          "scan": True,
      }
  )
  config.schedule = ml_collections.ConfigDict(
      {"segment": 64, "prompts_at_once": 8}
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
  # For a dry run without a policy.
  config.architecture = ml_collections.ConfigDict(
      {
          "model_type": "qwen2",
          "vocab_size": 9496,
          "hidden_size": 96,
          "intermediate_size": 560,
          "num_hidden_layers": 4,
          "num_attention_heads": 12,
          "num_key_value_heads": 2,
          "max_position_embeddings": 4096,
          "rope_theta": 10000.0,
          "rms_norm_eps": 1e-6,
          "tie_word_embeddings": True,
      }
  )
  return config
