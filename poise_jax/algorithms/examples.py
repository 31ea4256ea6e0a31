"""Batches on which the properties of a loss show, and a policy to go with them.

A batch is a dict of numpy arrays, one for each field of `types.RolloutBatch`:
P = 4 groups (one mixed, one failed, one solved, one partly invalid) of G = 7
completions of at most T = 6 tokens, with K = 2 reward components. Nothing is
random: the seed is fixed. Seven, because the mean of seven equal rewards of
1000.1 is off in f32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Fields = dict[str, np.ndarray]

TOKEN_FIELDS = (
    "logprobs",
    "entropy",
    "old_logprobs",
    "sampler_logprobs",
    "ref_logprobs",
)
# Slots of a batch in which rows have been moved.
WIDTH = 9

# Completions of a group, unless another number is asked for; at least 2.
GROUP_SIZE = 7

_P, _T = 4, 6
_FEATURES, _VOCABULARY = 5, 8


def off_policy(group_size: int = GROUP_SIZE) -> Fields:
  """All kinds of groups, ragged lengths, every policy a little different."""
  return _fields(*_kinds(group_size))


def on_policy(group_size: int = GROUP_SIZE) -> Fields:
  """Three of seven succeed in every group; all policies, all lengths agree."""
  shape = (_P, group_size)
  correct = np.broadcast_to(_succeeds(group_size), shape)
  fields = _fields(correct, np.ones(shape), np.full(shape, _T), drift=0.0)
  return fields | {"truncated": np.zeros(shape, np.float32)}


def equal_rewards(reward: float, group_size: int = GROUP_SIZE) -> Fields:
  """Every completion succeeds and is rewarded with `reward`."""
  ones = np.ones((_P, group_size), np.float32)
  fields = _fields(ones, ones, _kinds(group_size)[2])
  rewards = np.float32(reward) * ones
  return fields | {
      "rewards": rewards,
      "reward_components": np.stack([rewards, ones], axis=2),
  }


def edges(group_size: int = GROUP_SIZE) -> dict[str, Fields]:
  """Batches on which divisions, roots and exponentials go wrong, by name.

  All have the shape of `off_policy()`.
  """
  correct, valid, lengths = _kinds(group_size)
  none, ones = np.zeros_like(correct), np.ones_like(correct)
  first = none.copy()
  first[:, 0] = 1.0
  one_empty = lengths.copy()
  one_empty[0, 1] = one_empty[2, min(2, group_size - 1)] = 0
  return {
      "all fail": _fields(none, ones, lengths),
      "all pass": _fields(ones, ones, lengths),
      "all invalid": _fields(none, none, lengths),
      "one valid": _fields(first, first, lengths),
      "equal rewards of 1000.1": equal_rewards(1000.1, group_size),
      "one token each": _fields(correct, valid, np.ones_like(lengths)),
      "empty completions": _fields(correct, valid, one_empty),
      "log-ratios of 30": _far(group_size, "old_logprobs", "ref_logprobs"),
      "sampler off by 30": _far(group_size, "sampler_logprobs"),
  }


def groups_of_one() -> Fields:
  """The second completions of `off_policy()`: half of them succeed."""
  fields = off_policy()
  return {k: v[:, 1:2] if v.ndim >= 2 else v for k, v in fields.items()}


def without_tokens(group_size: int = GROUP_SIZE) -> Fields:
  """Rewards as in `off_policy()`, but not one token that counts."""
  correct, valid, lengths = _kinds(group_size)
  fields = _fields(correct, valid, np.zeros_like(lengths))
  return fields | {"truncated": np.zeros_like(fields["truncated"])}


def padded(fields: Fields) -> tuple[Fields, np.ndarray]:
  """Appends padding up to WIDTH; see `moved`."""
  slots = np.broadcast_to(np.arange(_T), fields["completion_mask"].shape)
  return moved(fields, slots), slots


def placed(fields: Fields) -> tuple[Fields, np.ndarray]:
  """Puts padding before and between the tokens of each row; see `moved`."""
  rng = np.random.default_rng(1)
  rows = fields["completion_mask"].reshape(-1, _T)
  slots = np.stack(
      [np.sort(rng.choice(WIDTH, _T, replace=False)) for _ in range(len(rows))]
  )
  slots[0] = np.arange(WIDTH - _T, WIDTH)
  slots = slots.reshape(fields["completion_mask"].shape)
  return moved(fields, slots), slots


def moved(fields: Fields, slots: np.ndarray) -> Fields:
  """Writes token t of each row into slot slots[..., t] of a row of WIDTH."""
  wide = {}
  for key in (*TOKEN_FIELDS, "completion_mask"):
    wide[key] = np.zeros((*slots.shape[:2], WIDTH), np.float32)
    np.put_along_axis(wide[key], slots, fields[key], axis=2)
  return fields | wide


def reordered(
    fields: Fields, prompts: np.ndarray, completions: np.ndarray
) -> Fields:
  """Takes groups in the order `prompts` [P], inside them `completions` [P, G].

  Row p of `completions` orders the p-th group of the result.
  """
  result = {}
  for key, value in fields.items():
    value = value[prompts] if value.ndim >= 1 else value
    if value.ndim >= 2:
      index = completions.reshape(completions.shape + (1,) * (value.ndim - 2))
      value = np.take_along_axis(value, index, axis=1)
    result[key] = value
  return result


def with_junk(fields: Fields, junk: float) -> Fields:
  """Writes `junk` into every masked slot of every token field."""
  live = fields["completion_mask"] > 0
  planted = {k: np.where(live, fields[k], junk) for k in TOKEN_FIELDS}
  return fields | {k: v.astype(np.float32) for k, v in planted.items()}


@functools.cache
def initial_weights() -> np.ndarray:
  """Parameters of the small policy, [features, vocabulary]."""
  return _f32(_wave(_FEATURES, _VOCABULARY))


@jax.jit
def policy(
    weights: jax.Array, rows: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """A linear softmax policy: log-probabilities and entropy of the tokens.

  Args:
    weights: [features, vocabulary].
    rows: features [P, G, T, features], tokens one-hot [P, G, T, vocabulary]
      and the mask [P, G, T], of any P.
  """
  features, tokens, mask = rows
  logits = jnp.einsum("pgtf,fv->pgtv", features, weights, precision="highest")
  log_policy = jax.nn.log_softmax(logits)
  logprobs = jnp.sum(log_policy * tokens, axis=3)
  entropy = -jnp.sum(jnp.exp(log_policy) * log_policy, axis=3)
  return logprobs * mask, entropy * mask


def accumulated(
    weights: np.ndarray,
    rows: tuple[np.ndarray, ...],
    cotangents: tuple[np.ndarray, np.ndarray],
    size: int,
) -> np.ndarray:
  """Pulls cotangents back to the weights, `size` prompts at a time, and sums.

  The cotangents are dL/dlogprobs and dL/dentropy of the whole batch.
  """
  total = np.zeros_like(weights)
  for start in range(0, len(cotangents[0]), size):
    part = slice(start, start + size)
    pulled = _pulled(
        weights,
        tuple(row[part] for row in rows),
        tuple(cotangent[part] for cotangent in cotangents),
    )
    total += np.asarray(pulled)
  return total


@jax.jit
def _pulled(
    weights: jax.Array,
    rows: tuple[jax.Array, ...],
    cotangents: tuple[jax.Array, ...],
) -> jax.Array:
  _, pull = jax.vjp(lambda w: policy(w, rows), weights)
  return pull(cotangents)[0]


def policy_rows(fields: Fields) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """What the small policy reads and writes in the batch."""
  shape = fields["completion_mask"].shape
  features = _wave(*shape, _FEATURES)
  count = int(np.prod(shape))
  tokens = (7 * np.arange(count) % 11 % _VOCABULARY).reshape(shape)
  one_hot = np.eye(_VOCABULARY)[tokens]
  return _f32(features), _f32(one_hot), fields["completion_mask"]


def written_by_policy(fields: Fields) -> Fields:
  """The batch as if the small policy had written it, drift included."""
  logprobs, entropy = policy(initial_weights(), policy_rows(fields))
  result = fields | {
      "logprobs": np.asarray(logprobs),
      "entropy": np.asarray(entropy),
  }
  for key in ("old_logprobs", "sampler_logprobs", "ref_logprobs"):
    drift = fields[key] - fields["logprobs"]
    result[key] = _f32(result["logprobs"] + drift)
  return result


def _succeeds(group_size: int) -> np.ndarray:
  """Marks three of seven, neither the first nor the last."""
  return np.isin(np.arange(group_size) % 7, (1, 4, 5)).astype(np.float32)


def _kinds(group_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Gives correct, valid and lengths: mixed, failed, solved, mostly invalid."""
  correct = np.zeros((_P, group_size), np.float32)
  correct[0] = _succeeds(group_size)
  third = min(2, group_size - 1)
  correct[2] = correct[3, third] = 1.0
  valid = np.ones_like(correct)
  valid[0, 6:] = valid[1, third] = valid[3, 4:] = 0.0
  lengths = 1 + (3 * np.arange(_P)[:, None] + 2 * np.arange(group_size)) % _T
  return correct, valid, lengths


def _fields(
    correct: np.ndarray,
    valid: np.ndarray,
    lengths: np.ndarray,
    drift: float = 1.0,
) -> Fields:
  """Fills in the fields that follow from what is special."""
  rng = np.random.default_rng(0)
  mask = np.arange(_T) < lengths[..., None]
  # At most 0.45, so that the old policy may be twice as likely.
  logprobs = -0.8 - rng.exponential(0.7, mask.shape)
  away = lambda x, scale: np.minimum(
      x + drift * rng.normal(0, scale, mask.shape), -0.01
  )
  old = away(logprobs, 0.3)
  fields = {
      "logprobs": logprobs * mask,
      "entropy": rng.uniform(0.1, 2.0, mask.shape) * mask,
      "old_logprobs": old * mask,
      "sampler_logprobs": away(old, 0.1) * mask,
      "ref_logprobs": away(old, 0.5) * mask,
      "completion_mask": mask,
      "rewards": correct,
      "correct": correct,
      "format_valid": valid,
      "truncated": lengths == _T,
      "lengths": lengths,
      "staleness": drift * (np.arange(lengths.shape[1]) % 3) * np.ones((_P, 1)),
      "reward_components": np.stack([correct, valid], axis=2),
      "history_pass_rate": np.array([0.4, 0.1, 0.9, 0.3]),
      "progress": 0.25,
  }
  return {k: _f32(v) for k, v in fields.items()} | {
      "step": np.asarray(3, np.int32)
  }


def _far(group_size: int, *keys: str) -> Fields:
  """Sets log-ratios of ±30: of one sign in a completion, then alternating."""
  correct, valid, lengths = _kinds(group_size)
  fields = _fields(correct, valid, np.full_like(lengths, _T), drift=0.0)
  index, slot = np.arange(group_size)[:, None], np.arange(_T)
  positive = np.where(index < 5, index, slot) % 2 == 0
  shape = fields["logprobs"].shape
  one = np.broadcast_to(np.where(positive, -0.5, -30.5), shape)
  other = np.broadcast_to(np.where(positive, -30.5, -0.5), shape)
  for key in ("logprobs", "old_logprobs", "sampler_logprobs", "ref_logprobs"):
    fields[key] = _f32(other if key in keys else one)
  return fields


def _wave(*shape: int) -> np.ndarray:
  """Values in ±1 without a visible pattern."""
  count = int(np.prod(shape))
  return np.sin(1.7 * np.arange(count) ** 1.3).reshape(shape)


def _f32(values: np.ndarray | float) -> np.ndarray:
  return np.asarray(values, np.float32)
