"""Records what TRL and verl make of one batch, for `peers_test.py`.

Run as `python tests/algorithms/record_peers.py` where torch, trl and verl are
installed; jax is not needed. The functions of the two libraries are called as
they are, in float64:

- verl has pure functions of tensors.
- TRL has methods. They get a stand-in for the trainer, with the defaults of
  its configuration and a model that returns our log-probabilities. Parts of a
  longer method, which makes the advantages and the weights against the
  sampler, are cut out of its source by their first and last lines.
"""

import collections
import dataclasses
import functools
import importlib.metadata
import inspect
import json
import pathlib
import textwrap
import types
from unittest import mock

import numpy as np
import torch
from trl import rewards as trl_rewards
from trl.experimental.gmpo import gmpo_trainer
from trl.trainer import grpo_config, grpo_trainer, rloo_trainer
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos, rollout_corr_helper
from verl.workers.config import actor

P, G, T = 4, 8, 6
N = P * G


def make_arrays():
  """Groups of mixed, low, equal and partly invalid rewards; off-policy."""
  rng = np.random.default_rng(7)
  lengths = rng.integers(1, T + 1, (P, G))
  mask = (np.arange(T) < lengths[..., None]).astype(np.float32)
  correct, valid = np.zeros((P, G)), np.ones((P, G))
  correct[0, [1, 4, 5]] = correct[2] = correct[3, 2] = 1
  valid[0, 6] = valid[1, 3] = valid[3, 4:] = 0
  old = -0.01 - rng.exponential(1.0, (P, G, T))
  arrays = {
      "logprobs": np.minimum(old + rng.normal(0, 0.5, (P, G, T)), -0.01),
      "entropy": rng.uniform(0, 2, (P, G, T)),
      "old_logprobs": old,
      "sampler_logprobs": old + rng.normal(0, 0.1, (P, G, T)),
      "ref_logprobs": old + rng.normal(0, 0.5, (P, G, T)),
  }
  arrays = {key: value * mask for key, value in arrays.items()}
  arrays |= {
      "completion_mask": mask,
      "rewards": correct + 0.25 * valid,
      "correct": correct,
      "format_valid": valid,
      "truncated": (lengths == T) * 1.0,
      "lengths": mask.sum(axis=2),
      "staleness": np.zeros((P, G)),
      "reward_components": np.stack([correct, valid], axis=2),
      "history_pass_rate": np.full(P, 0.5),
      "progress": np.array(0.25),
  }
  return {key: value.astype(np.float32) for key, value in arrays.items()}


ARRAYS = make_arrays()


def rows(field, *shape):
  return torch.tensor(ARRAYS[field]).double().reshape(N, *shape)


MASK, OLD = rows("completion_mask", T), rows("old_logprobs", T)
SAMPLER, REF = rows("sampler_logprobs", T), rows("ref_logprobs", T)
COUNTS = MASK.long()
REWARDS, COMPONENTS = rows("rewards"), rows("reward_components", 2)


# verl.


def at_last_token(values):
  """Outcome rewards as verl wants them: on the last token of a response."""
  placed = torch.zeros(N, T, dtype=torch.float64)
  placed[torch.arange(N), COUNTS.sum(dim=1) - 1] = values
  return placed


def verl_advantages(name, rewards=None, **options):
  rewards = at_last_token(REWARDS) if rewards is None else rewards.clone()
  if name != "reinforce_plus_plus":
    options["index"] = np.repeat(np.arange(P), G)
  return core_algos.get_adv_estimator_fn(name)(
      token_level_rewards=rewards,
      response_mask=MASK,
      **{"config": AlgoConfig()} | options,
  )[0]


def verl_gdpo(keys, weights):
  components = dict(zip(keys, COMPONENTS.T.numpy(), strict=True))
  return verl_advantages(
      "gdpo",
      config=AlgoConfig(gdpo_reward_keys=keys, gdpo_reward_weights=weights),
      non_tensor_batch=components,
      batch={
          "prompts": torch.zeros(N, 1),
          "attention_mask": torch.cat([COUNTS[:, :1], COUNTS], dim=1),
      },
  )


def verl_loss(
    mode,
    advantages,
    agg="token-mean",
    *,
    tokens,
    weights=None,
    kl=None,
    policy_loss=None,
    **options,
):
  config = actor.ActorConfig(
      strategy="fsdp",
      rollout_n=G,
      use_dynamic_bsz=True,
      policy_loss=actor.PolicyLossConfig(**policy_loss or {}),
      **options,
  )
  function = core_algos.get_policy_loss_fn(mode)
  logprobs = tokens["logprobs"]
  loss = function(OLD, logprobs, advantages, MASK, agg, config, weights)[0]
  if kl is not None:  # The sum that the actor makes under `use_kl_loss`.
    coefficient, kind = kl
    loss = loss + coefficient * verl_kl(kind, agg, tokens=tokens)
  return loss


def verl_kl(kind, agg="token-mean", *, tokens):
  values = core_algos.kl_penalty(tokens["logprobs"], REF, kind)
  return core_algos.agg_loss(values, MASK, agg)


def verl_over_choices(*args, **options):
  """The mean over all choices of the random tokens, cyclic shifts of a list."""
  losses, count = [], 1
  while len(losses) < count:

    def permutation(size):
      nonlocal count
      count = size
      return torch.arange(size).roll(len(losses))

    with mock.patch.object(torch, "randperm", permutation):
      losses.append(verl_loss(*args, **options))
  return torch.stack(losses).mean()


def verl_weights(level, threshold):
  function = rollout_corr_helper.compute_rollout_correction_weights
  return function(OLD - SAMPLER, MASK, level, threshold)[0]


def verl_kept(modes, threshold, *, tokens):
  """Mean log-probability of what verl's rejection against the sampler keeps."""
  function = rollout_corr_helper.compute_rollout_rejection_mask
  kept = function(OLD - SAMPLER, MASK, modes, threshold)[0]
  return core_algos.agg_loss(tokens["logprobs"], kept, "token-mean")


# TRL.


def execute(module, first, last, trainer, **names):
  """Runs a part of `_generate_and_score_completions` on a stand-in."""
  text = inspect.getsource(module)
  text = text[text.index("def _generate_and_score_completions(") :]
  start = text.rindex("\n", 0, text.index(first)) + 1
  part = textwrap.dedent(text[start : text.index(last, start)])
  scope = vars(module) | names | {"self": types.SimpleNamespace(**trainer)}
  exec(compile(part, module.__name__, "exec"), scope)
  return scope


def trl_advantages(scale, rewards=REWARDS[:, None], weights=(1.0,), gdpo=False):
  trainer = {
      "scale_rewards": scale,
      "multi_objective_aggregation": (
          "normalize_then_sum" if gdpo else "sum_then_normalize"
      ),
      "reward_weights": torch.tensor(weights).double(),
      "reward_funcs": weights,
  }
  return execute(
      grpo_trainer,
      "if self.multi_objective_aggregation ==",
      "# Slice to keep only the local part",
      trainer,
      rewards_per_func=rewards,
      unscorable_mask=torch.zeros(N, dtype=torch.bool),
      num_generations=G,
      device="cpu",
  )["advantages"]


def trl_weights(mode, low=None, high=None):
  """Weights against the sampler, as TRL has them where vLLM samples."""
  prefix = "vllm_importance_sampling"
  return execute(
      grpo_trainer,
      "per_token_logps_diff = (",
      "# Compute the per-token log probabilities for the reference",
      {
          f"{prefix}_mode": mode,
          f"{prefix}_clip_min": low,
          f"{prefix}_clip_max": high,
      },
      old_per_token_logps=OLD,
      sampling_per_token_logps=SAMPLER,
      mask=COUNTS,
  )[f"{prefix}_ratio"]


def trl_rloo_advantages(beta):
  return execute(
      rloo_trainer,
      "# Include the KL penalty in the reward",
      "is_std_zero =",
      {"beta": beta, "normalize_advantages": False},
      rewards=REWARDS,
      old_per_token_logps=OLD,
      ref_per_token_logps=REF,
      completion_mask=COUNTS,
      num_generations=G,
      gather=lambda x: x,
  )["advantages"]


def stand_in(tokens, options):
  """What the loss methods read of a trainer: one process, one micro-batch."""
  fields = dataclasses.fields(grpo_config.GRPOConfig)
  trainer = types.SimpleNamespace(**{f.name: f.default for f in fields})
  trainer.args = trainer
  trainer.epsilon_low = trainer.epsilon_high = trainer.epsilon
  trainer.accelerator = types.SimpleNamespace(
      num_processes=1,
      sync_gradients=True,
      gather=lambda x: x,
      reduce=lambda x, reduction: x,
      pad_across_processes=lambda x, **_: x,
  )
  trainer.model = types.SimpleNamespace(training=True)
  trainer._metrics = {"train": collections.defaultdict(list)}
  trainer.aux_loss_enabled = trainer._entropy_bonus_enabled = False
  trainer.current_gradient_accumulation_steps = 1
  trainer.steps_per_generation = 1
  trainer._get_per_token_logps_and_entropies = lambda *_, **__: (
      tokens["logprobs"],
      tokens["entropy"],
      None,
  )
  trainer._entropy_window_stats = None
  cls = grpo_trainer.GRPOTrainer
  trainer.get_high_entropy_mask = functools.partial(
      cls.get_high_entropy_mask, trainer
  )
  trainer.get_off_policy_mask = cls.get_off_policy_mask
  trainer.get_gamma_weights = cls.get_gamma_weights
  vars(trainer).update(options)
  return trainer


def trl_loss(
    advantages,
    *,
    tokens,
    cls=grpo_trainer.GRPOTrainer,
    weights=None,
    **options,
):
  inputs = {
      "prompt_ids": COUNTS[:, :1],
      "prompt_mask": COUNTS[:, :1],
      "completion_ids": COUNTS,
      "completion_mask": COUNTS,
      "advantages": advantages,
      "num_items_in_batch": COUNTS.sum(),
      "old_per_token_logps": OLD,
      "old_logps": (OLD * MASK).sum(dim=1),
      "sampling_per_token_logps": SAMPLER,
      "ref_per_token_logps": REF,
      "importance_sampling_ratio": weights,
  }
  trainer = stand_in(tokens, {"use_vllm": weights is not None} | options)
  return cls._compute_loss(trainer, trainer.model, inputs)


# Constants are such that every term is active.


def verl_cases():
  clip = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "clip_ratio_c": 9.0}
  dual = clip | {"clip_ratio_c": 1.5}
  narrow = clip | {"clip_ratio_low": 0.05, "clip_ratio_high": 0.1}
  close = {"clip_ratio_high": 0.03, "clip_ratio_c": 1.4}
  grpo = verl_advantages("grpo")
  centred = verl_advantages("grpo", norm_adv_by_std_in_grpo=False)
  rloo, gpg = verl_advantages("rloo"), verl_advantages("gpg")
  whitened = verl_advantages("reinforce_plus_plus_baseline")
  rewards = core_algos.compute_rewards(at_last_token(REWARDS), OLD, REF, 0.05)
  returns = verl_advantages("reinforce_plus_plus", rewards * MASK)
  gdpo = verl_gdpo(["correct", "valid"], [1.0, 0.5])
  by_seq, summed = "seq-mean-token-mean", "seq-mean-token-sum"
  norm = {"global_batch_info": {"loss_scale_factor": 31}}
  none = {"clip_cov_lb": 1e6, "clip_cov_ub": 2e6}
  some = {"clip_cov_lb": 0.1, "clip_cov_ub": 1.0, "clip_cov_ratio": 0.05}
  tau = {"tau_pos": 1.5, "tau_neg": 2.5}
  most = {"kl_cov_ratio": 0.2, "ppo_kl_coef": 0.7}
  f = functools.partial
  k = f(f, verl_loss)
  cases = {
      "vanilla": k("vanilla", grpo, **dual),
      "kl": k("vanilla", grpo, kl=(0.04, "low_var_kl"), **dual),
      "dr_grpo": k("vanilla", centred, f"{summed}-norm", **clip | norm),
      "rloo": k("vanilla", rloo, **clip),
      "rloo/sum": k("gpg", rloo, summed),
      "opo": k("gpg", verl_advantages("opo")),
      "gpg": k("gpg", gpg, by_seq),
      "reinforce_pp": k("vanilla", returns, **clip),
      "reinforce_pp_baseline": k("vanilla", whitened, kl=(0.05, "k2"), **clip),
      "gdpo": k("vanilla", gdpo, **clip),
      "gspo": k("gspo", grpo, **narrow),
      "gspo/seq": k("gspo", grpo, by_seq, **narrow),
      "cispo": k("cispo", grpo, **clip),
      "gmpo": k("geo_mean", grpo, **clip),
      "sapo": k("sapo", grpo, **tau),
      "dro": k("dro", grpo, policy_loss={"dro_beta": 0.3}),
      "dppo_tv": k("dppo_tv", grpo, clip_ratio_low=0.02, **close),
      "dppo_kl": k("dppo_kl", grpo, clip_ratio_low=0.03, **close),
      "clip_cov/none": k("clip_cov", grpo, policy_loss=none, **clip),
      "clip_cov/mean": f(
          verl_over_choices, "clip_cov", grpo, policy_loss=some, **clip
      ),
      "kl_cov": k("kl_cov", grpo, policy_loss=most),
      "rejected/token_k1": f(verl_kept, "token_k1", "0.9_1.15"),
      "rejected/seq_mean_k1": f(verl_kept, "seq_mean_k1", "0.98_1.05"),
  }
  for kind in ("k1", "abs", "k2", "low_var_kl", "k3+"):
    cases[f"kl/{kind}"] = f(verl_kl, kind)
  for name, level, threshold in (
      ("tis", "token", 1.1),
      ("tis/sequence", "sequence", 1.1),
      ("icepop", "token", "0.9_1.15"),
  ):
    weights = verl_weights(level, threshold)
    cases[name] = k("vanilla", grpo, weights=weights, **clip)
  return {f"verl/{name}": case for name, case in cases.items()}


def trl_cases():
  grpo, centred = trl_advantages("group"), trl_advantages("none")
  batch = trl_advantages("batch")
  gdpo = trl_advantages("group", COMPONENTS, (1.0, 0.5), gdpo=True)
  clip = {"epsilon_low": 0.2, "epsilon_high": 0.28}
  narrow = {"epsilon_low": 0.05, "epsilon_high": 0.1}
  narrow["importance_sampling_level"] = "sequence"
  biased = clip | {"beta": 0.04, "use_bias_correction_kl": False}
  unbiased = clip | {"beta": 0.04}
  dr_grpo = clip | {"loss_type": "dr_grpo", "max_completion_length": 31}
  tau = {"sapo_temperature_pos": 1.5, "sapo_temperature_neg": 2.5}
  vespo = {"vespo_k_pos": 1.5, "vespo_lambda_pos": 2.5}
  vespo |= {"vespo_k_neg": 2.0, "vespo_lambda_neg": 1.25}
  vespo["loss_type"] = "vespo"
  opsm = unbiased | {"off_policy_mask_threshold": 0.02, "loss_type": "grpo"}
  bonus = clip | {"_entropy_bonus_enabled": True, "use_adaptive_entropy": True}
  bonus |= {"entropy_coef": 0.3, "entropy_target": 1.5}
  bonus["_last_world_entropy"] = 1.0
  untruncated = trl_weights("sequence_truncate", high=1e9)
  gmpo = clip | {"cls": gmpo_trainer.GMPOTrainer}
  rloo = clip | {"cls": rloo_trainer.RLOOTrainer}
  k = functools.partial(functools.partial, trl_loss)
  cases = {
      "dapo": k(grpo, **clip),
      "bnpo": k(grpo, loss_type="bnpo", **clip),
      "dapo/k3": k(grpo, **biased),
      "dapo/unbiased_k3": k(grpo, **unbiased),
      "grpo/k3": k(grpo, loss_type="grpo", **biased),
      "dr_grpo": k(centred, **dr_grpo),
      "lite_ppo": k(batch, **clip),
      "gdpo": k(gdpo, **clip),
      "delta": k(grpo, delta=1.5, **clip),
      "cispo": k(grpo, loss_type="cispo", epsilon_high=1.2),
      "sapo": k(grpo, loss_type="sapo", **tau),
      "gspo": k(grpo, loss_type="grpo", **narrow),
      "gspo/token_mean": k(grpo, **narrow),
      "luspo": k(grpo, loss_type="luspo", **narrow),
      "gmpo": k(grpo, **gmpo),
      "vespo": k(grpo, **vespo),
      "vespo/sampler": k(grpo, weights=untruncated, **vespo),
      "high_entropy": k(grpo, top_entropy_quantile=0.2, **clip),
      "deepseek_v32": k(centred, **opsm),
      "rloo": k(trl_rloo_advantages(0.05), **rloo),
      "entropy_bonus": k(grpo, **bonus),
  }
  for name, mode, low, high in (
      ("tis", "token_truncate", None, 1.1),
      ("tis/sequence", "sequence_truncate", None, 1.1),
      ("icepop", "token_mask", 0.9, 1.15),
      ("mis", "sequence_mask", None, 1.1),
  ):
    weights = trl_weights(mode, low, high)
    cases[name] = k(grpo, weights=weights, **clip)
  cases["mis/k3"] = k(grpo, weights=weights, **biased)
  return {f"trl/{name}": case for name, case in cases.items()}


def controllers():
  """What becomes of coefficients, and of rewards near the length limit."""
  controlled = core_algos.AdaptiveKLController(0.02, 0.1, 1000)
  coefficients = []
  for divergence in (0.05, 0.11, 0.5):
    controlled.update(divergence, N)
    coefficients.append(controlled.value)
  punish = trl_rewards.get_soft_overlong_punishment(6, 3)
  lengths = [[1] * length for length in range(1, 9)]
  return {
      "verl/adaptive_kl": coefficients,
      "trl/soft_overlong": punish(completion_ids=lengths),
  }


def evaluate(loss):
  """Value and gradients at the live tokens, row by row."""
  tokens = {
      key: rows(key, T).requires_grad_() for key in ("logprobs", "entropy")
  }
  value = loss(tokens=tokens)
  value.backward()
  result = {"value": value.item()}
  for key, leaf in tokens.items():
    grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    if torch.any(grad[MASK == 0] != 0) or not torch.isfinite(grad).all():
      raise ValueError(f"gradient of {key} where masked: must be zero")
    if torch.any(grad != 0):
      result[key] = grad[MASK > 0].tolist()
  return result


def rounded(values):
  """Numbers with nine significant digits, which is all of a float32."""
  if isinstance(values, dict):
    return {key: rounded(value) for key, value in values.items()}
  if isinstance(values, list):
    return [rounded(value) for value in values]
  return float(f"{values:.9g}")


def main():
  cases = verl_cases() | trl_cases()
  entries = {
      "arrays": {key: value.tolist() for key, value in ARRAYS.items()},
      **{name: evaluate(loss) for name, loss in cases.items()},
      **controllers(),
  }
  lines = [f'"{key}": {json.dumps(rounded(v))}' for key, v in entries.items()]
  versions = {k: importlib.metadata.version(k) for k in ("trl", "verl")}
  lines.insert(0, f'"versions": {json.dumps(versions)}')
  path = pathlib.Path(__file__).with_name("peers.json")
  path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
  main()
