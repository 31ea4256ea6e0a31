"""Adapters: what they add, that they train, and the files of peft."""

import json

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest
import safetensors.numpy

from poise_jax import sharding
from poise_jax.models import checkpoints, logical_axes, lora, transformer

CONFIG = transformer.TransformerConfig(
    vocab_size=11,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
)
OPTIONS = lora.LoraOptions(rank=2, alpha=6.0, targets=("q_proj", "down_proj"))
NAME = "layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def policy():
  return transformer.make(CONFIG, 0)


@pytest.fixture
def adapters():
  """Adapters that do something."""
  found = lora.init(CONFIG, OPTIONS, jax.random.key(0))
  leaves, structure = jax.tree.flatten(found)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
      jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(structure, leaves)


def _kernel(params, layer, module, projection):
  return np.asarray(params["layers"][layer][module][projection]["kernel"][...])


def test_new_adapters_change_nothing(policy):
  _, params = policy
  adapters = lora.init(CONFIG, OPTIONS, jax.random.key(0))
  assert sorted(adapters) == [
      f"layers.{i}.{name}"
      for i in range(2)
      for name in ("mlp.down_proj", "self_attn.q_proj")
  ]
  assert adapters[NAME]["lora_a"].shape == (24, 2)
  assert adapters[NAME]["lora_b"].shape == (2, 16)
  kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert kinds(lora.shapes(CONFIG, OPTIONS)) == kinds(adapters)
  spread = np.abs(adapters[NAME]["lora_a"])
  assert 0 < spread.max() <= 24**-0.5
  merged = lora.merge(params, adapters, OPTIONS)
  jax.tree.map(np.testing.assert_array_equal, merged, params)


def test_a_scaled_product_is_added(policy, adapters):
  _, params = policy
  merged = lora.merge(params, adapters, OPTIONS)
  assert jax.tree.structure(merged) == jax.tree.structure(params)
  a, b = (
      np.asarray(adapters[NAME][k], np.float64) for k in sorted(adapters[NAME])
  )
  np.testing.assert_allclose(
      _kernel(merged, 1, "mlp", "down_proj"),
      _kernel(params, 1, "mlp", "down_proj") + 3.0 * a @ b,
      atol=1e-5,
  )
  for place in ((0, "mlp", "up_proj"), (1, "self_attn", "k_proj")):
    np.testing.assert_array_equal(
        _kernel(merged, *place), _kernel(params, *place)
    )


def test_the_type_of_the_weights_is_kept(policy, adapters):
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), policy[1])
  merged = lora.merge(half, adapters, OPTIONS)
  assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {
      jnp.dtype(jnp.bfloat16)
  }


def test_adapters_of_another_model_are_refused(policy, adapters):
  adapters["layers.7.mlp.up_proj"] = adapters[NAME]
  with pytest.raises(ValueError, match="have no layers.7.mlp.up_proj"):
    lora.merge(policy[1], adapters, OPTIONS)


def test_adapters_train_while_the_rest_is_frozen(policy):
  graphdef, params = policy
  params = jax.tree.map(lambda x: 10 * x, params)  # logits of some size
  tokens = jax.random.randint(jax.random.key(2), (4, 8), 0, 11)
  optimizer = optax.adam(1e-2)

  @jax.jit
  def step(adapters, opt_state, params):
    def loss(adapters):
      model = nnx.merge(graphdef, lora.merge(params, adapters, OPTIONS))
      losses = optax.softmax_cross_entropy_with_integer_labels(
          model(tokens[:, :-1]), tokens[:, 1:]
      )
      return jnp.mean(losses)

    value, grads = jax.value_and_grad(loss)(adapters)
    updates, opt_state = optimizer.update(grads, opt_state, adapters)
    return optax.apply_updates(adapters, updates), opt_state, value

  adapters = lora.init(CONFIG, OPTIONS, jax.random.key(0))
  opt_state = optimizer.init(adapters)
  losses = []
  for _ in range(60):
    adapters, opt_state, value = step(adapters, opt_state, params)
    losses.append(float(value))
  assert losses[-1] < 0.7 * losses[0]


def test_files_are_those_of_peft(tmp_path, adapters):
  lora.save(tmp_path / "a", adapters, OPTIONS, base="Qwen/Qwen2.5-Math-1.5B")
  assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
      "adapter_config.json",
      "adapter_model.safetensors",
  ]
  fields = json.loads((tmp_path / "a" / lora.CONFIG_FILE).read_text())
  assert (fields["peft_type"], fields["task_type"]) == ("LORA", "CAUSAL_LM")
  assert (fields["r"], fields["lora_alpha"]) == (2, 6.0)
  assert fields["target_modules"] == ["q_proj", "down_proj"]
  tensors = safetensors.numpy.load_file(tmp_path / "a" / lora.WEIGHTS_FILE)
  assert len(tensors) == 2 * 2 * 2
  name = "base_model.model.model.layers.1.mlp.down_proj"
  np.testing.assert_array_equal(
      tensors[f"{name}.lora_A.weight"], adapters[NAME]["lora_a"].T
  )
  np.testing.assert_array_equal(
      tensors[f"{name}.lora_B.weight"], adapters[NAME]["lora_b"].T
  )


def test_out_and_in_again_is_bit_equal(tmp_path, adapters):
  lora.save(tmp_path, adapters, OPTIONS)
  lora.save(tmp_path, adapters, OPTIONS)
  options, found = lora.load(tmp_path, CONFIG)
  assert options == OPTIONS
  jax.tree.map(np.testing.assert_array_equal, found, adapters)


def test_merged_params_export_as_any_others(tmp_path, policy, adapters):
  merged = lora.merge(policy[1], adapters, OPTIONS)
  checkpoints.save(tmp_path, CONFIG, merged)
  found = checkpoints.load(tmp_path).params
  jax.tree.map(np.testing.assert_array_equal, found, merged)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"target_modules": "all-linear"}, "target_modules"),
        ({"target_modules": ["lm_head"]}, "`targets`"),
        ({"r": None}, "`r`"),
        ({"r": 3}, "has shape"),
        ({"peft_type": "IA3"}, "peft_type"),
    ],
)
def test_other_adapters_are_refused(tmp_path, adapters, changes, message):
  lora.save(tmp_path, adapters, OPTIONS)
  path = tmp_path / lora.CONFIG_FILE
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  with pytest.raises(ValueError, match=message):
    lora.load(tmp_path, CONFIG)


def test_what_does_not_fit_is_listed(tmp_path, adapters):
  adapters["layers.9.mlp.down_proj"] = adapters.pop(NAME)
  lora.save(tmp_path, adapters, OPTIONS)
  with pytest.raises(ValueError) as error:
    lora.load(tmp_path, CONFIG)
  prefix = "base_model.model.model."
  assert f"missing {prefix}{NAME}.lora_A.weight" in str(error.value)
  assert f"unknown {prefix}layers.9.mlp.down_proj" in str(error.value)


def test_missing_and_broken_files(tmp_path, adapters):
  with pytest.raises(FileNotFoundError, match="adapter_config.json"):
    lora.load(tmp_path, CONFIG)
  lora.save(tmp_path, adapters, OPTIONS)
  path = tmp_path / lora.WEIGHTS_FILE
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(ValueError, match="cannot read"):
    lora.load(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "changes", [{"rank": 0}, {"alpha": 0.0}, {"targets": ()}, {"seed": -1}]
)
def test_options_are_checked(changes):
  with pytest.raises(ValueError, match=f"`{next(iter(changes))}` must"):
    lora.LoraOptions(**changes)


def test_adapters_are_split_as_their_kernels(adapters):
  mesh = sharding.make_mesh(sharding.MeshConfig())
  found = logical_axes.parameter_shardings(mesh, adapters)
  specs = {name: part.spec for name, part in found[NAME].items()}
  assert specs == {
      "lora_a": PartitionSpec("tensor"),
      "lora_b": PartitionSpec(None, "fsdp"),
  }
  state = jax.eval_shape(optax.adam(1e-3).init, adapters)
  moments = logical_axes.like_parameters(mesh, state, adapters)[0].mu
  assert moments[NAME]["lora_b"].spec == PartitionSpec(None, "fsdp")
