"""Parameters and optimizer states over meshes of 8 virtual devices."""

import os
import pathlib
import subprocess
import sys
import textwrap

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest

from poise_jax import sharding
from poise_jax.models import checkpoints, logical_axes, transformer

EMBEDDED = pathlib.Path(checkpoints.__file__).parent / "embedded_policy"
CONFIG = transformer.TransformerConfig(
    vocab_size=20,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
)
MESHES = ((8, 1, 1), (2, 4, 1), (2, 2, 2))


@pytest.fixture(scope="module")
def mesh():
  return sharding.make_mesh(sharding.MeshConfig())


@pytest.fixture(scope="module")
def params():
  return transformer.structure(CONFIG)[1]


def _specs(shardings):
  paths = jax.tree_util.tree_leaves_with_path(shardings)
  keystr = jax.tree_util.keystr
  return {keystr(p, simple=True, separator="."): s.spec for p, s in paths}


def test_every_parameter_has_axes(params):
  axes = logical_axes.parameter_axes(params)
  assert len(axes) == len(jax.tree.leaves(params)) == 2 + 2 * 12
  assert axes["embed_tokens.embedding"] == ("vocab", "embed")
  assert axes["layers.1.self_attn.q_proj.bias"] == ("heads",)
  assert axes["layers.0.self_attn.v_proj.kernel"] == ("embed", "kv_heads")
  assert axes["norm.weight"] == (None,)


def test_shardings_have_the_structure_of_the_params(mesh, params):
  found = logical_axes.parameter_shardings(mesh, params)
  assert jax.tree.structure(found) == jax.tree.structure(params)
  layer = found["layers"][1]
  row, column = PartitionSpec("tensor", "fsdp"), PartitionSpec("fsdp", "tensor")
  assert layer["self_attn"]["o_proj"]["kernel"].get_value().spec == row
  assert layer["mlp"]["down_proj"]["kernel"].get_value().spec == row
  assert layer["mlp"]["up_proj"]["kernel"].get_value().spec == column
  assert found["norm"]["weight"].get_value().spec == PartitionSpec()


def test_decoding_splits_by_tensor_alone(mesh, params):
  found = logical_axes.decoding_shardings(mesh, params)
  layer = found["layers"][1]
  kernel = lambda *path: layer[path[0]][path[1]]["kernel"].get_value().spec
  assert kernel("self_attn", "o_proj") == PartitionSpec("tensor")
  assert kernel("mlp", "up_proj") == PartitionSpec(None, "tensor")
  table = found["embed_tokens"]["embedding"].get_value()
  assert table.spec == PartitionSpec("tensor")


@pytest.mark.parametrize("model_type", ["qwen3", "llama"])
def test_every_family_has_axes(mesh, model_type):
  config = transformer.TransformerConfig(
      *(20, 16, 24, 1, 4, 2, 12),
      model_type=model_type,
      tie_word_embeddings=False,
  )
  params = transformer.structure(config)[1]
  axes = logical_axes.parameter_axes(params)
  assert len(axes) == len(jax.tree.leaves(params))
  assert axes["lm_head.kernel"] == ("embed", "vocab")
  norms = [
      name for name in axes if name.endswith(("q_norm.weight", "k_norm.weight"))
  ]
  assert len(norms) == 2 * (model_type == "qwen3")


def test_unknown_parameters_are_all_listed(mesh):
  params = nnx.State(
      {
          "head": {"kernel": nnx.Param(jnp.ones((2, 3)))},
          "layers": {0: {"norm": {"weight": nnx.Param(jnp.ones(2))}}},
          "norm": {"weight": nnx.Param(jnp.ones((2, 2)))},
      }
  )
  with pytest.raises(ValueError) as error:
    logical_axes.parameter_shardings(mesh, params)
  for part in (
      "head.kernel (2, 3) is unknown",
      "layers.0.norm.weight (2,) is unknown",
      "norm.weight (2, 2) should have axes (None,)",
  ):
    assert part in str(error.value)


def _layers_only(tree):
  return jax.tree_util.tree_map_with_path(
      lambda path, _: "layers" in str(path[0]), tree
  )


@pytest.mark.parametrize(
    "optimizer, copies",
    [
        (
            optax.chain(
                optax.clip_by_global_norm(1.0),
                optax.adamw(optax.linear_schedule(1e-3, 0.0, 5)),
            ),
            2,
        ),
        (optax.sgd(0.1, momentum=0.9), 1),
        (optax.sgd(0.1), 0),
        (optax.MultiSteps(optax.adam(1e-3), 2).gradient_transformation(), 3),
        (optax.apply_if_finite(optax.adam(1e-3), 5), 2),
        (optax.inject_hyperparams(optax.adam)(learning_rate=1e-3), 2),
        (optax.adam(1e-3, mu_dtype=jnp.bfloat16), 2),
    ],
)
def test_moments_are_split_as_their_parameter(mesh, params, optimizer, copies):
  state = jax.eval_shape(optimizer.init, params)
  found = logical_axes.like_parameters(mesh, state, params)
  assert jax.tree.structure(found) == jax.tree.structure(state)
  specs = _specs(found)
  wanted = _specs(logical_axes.parameter_shardings(mesh, params))
  followers = {
      name: own for name, own in specs.items() if name.endswith(tuple(wanted))
  }
  assert len(followers) == copies * len(wanted)
  for name, spec in wanted.items():
    mine = [own for key, own in followers.items() if key.endswith(f".{name}")]
    if name != "norm.weight.value":
      assert mine == [spec] * copies
  others = {own for key, own in specs.items() if key not in followers}
  assert others <= {PartitionSpec()}


def test_a_masked_optimizer_splits_what_it_keeps(mesh, params):
  optimizer = optax.masked(optax.adam(1e-3), _layers_only)
  state = jax.eval_shape(optimizer.init, params)
  specs = _specs(logical_axes.like_parameters(mesh, state, params))
  assert len(specs) == 1 + 2 * 2 * 12
  q_proj = [own for key, own in specs.items() if "q_proj.kernel" in key]
  assert q_proj == [PartitionSpec("fsdp", "tensor")] * 4


def test_arrays_of_other_shapes_are_replicated(mesh, params):
  optimizer = optax.adafactor(1e-3, min_dim_size_to_factor=8)
  state = jax.eval_shape(optimizer.init, params)
  specs = _specs(logical_axes.like_parameters(mesh, state, params))
  rows = [own for key, own in specs.items() if "v_row" in key]
  assert rows and set(rows) == {PartitionSpec()}


def test_sizes_that_divide_pass():
  logical_axes.check_divisible(CONFIG, sharding.MeshConfig(3, 8, 2))


def test_sizes_that_do_not_divide_are_all_listed():
  with pytest.raises(ValueError) as error:
    logical_axes.check_divisible(CONFIG, sharding.MeshConfig(1, 5, 3))
  for part in (
      "num_attention_heads=4 is not a multiple of --config.mesh.tensor=3",
      "num_key_value_heads=2",
      "vocab_size=20",
      "hidden_size=16 is not a multiple of --config.mesh.fsdp=5",
  ):
    assert part in str(error.value)
  assert "intermediate_size" not in str(error.value)


def test_key_heads_are_never_copied():
  with pytest.raises(ValueError) as error:
    logical_axes.check_divisible(CONFIG, sharding.MeshConfig(tensor=4))
  assert "num_key_value_heads=2 is not a multiple" in str(error.value)
  assert "num_attention_heads" not in str(error.value)


CHILD = """
    import functools, pathlib, sys
    import jax, jax.numpy as jnp, numpy as np, optax
    from poise_jax import sharding
    from poise_jax.models import checkpoints, logical_axes
    from poise_jax.rollout import prompt_batches, scoring

    policy = checkpoints.load(sys.argv[1])
    params = jax.device_get(policy.params)
    rng = np.random.default_rng(0)
    rows = (
        prompt_batches.Prompts(rng.integers(0, 17, (8, 14)).astype(np.int32)),
        rng.integers(0, 17, (16, 6)).astype(np.int32),
        (np.arange(6) < rng.integers(1, 7, (16, 1))).astype(np.float32),
    )
    score = scoring.make_score_tokens(policy.graphdef)
    # Rounding must not be magnified: the second moment is far from zero.
    optimizer = optax.adamw(1e-2, eps=1.0)
    opt_state = optimizer.init(policy.params)

    def step(params, opt_state, *rows):
      def loss(params):
        scores = score(params, scoring.Rows(*rows))
        value = jnp.mean(scores.logprobs + scores.entropy)
        return value, scores

      (_, scores), grads = jax.value_and_grad(loss, has_aux=True)(params)
      updates, opt_state = optimizer.update(grads, opt_state, params)
      return optax.apply_updates(params, updates), opt_state, scores

    result = {}

    def record(name, output):
      for i, leaf in enumerate(jax.tree.leaves(sharding.fetch(output))):
        result[f"{name}/{i}"] = leaf

    record("whole", jax.jit(step)(params, opt_state, *rows))
    for shape in ((8, 1, 1), (2, 4, 1), (2, 2, 2)):
      mesh = sharding.make_mesh(sharding.MeshConfig(*shape))
      weights = logical_axes.parameter_shardings(mesh, params)
      moments = logical_axes.like_parameters(mesh, opt_state, params)
      split = sharding.batch_shardings(mesh, rows)
      program = jax.jit(
          step,
          in_shardings=(weights, moments, *split),
          out_shardings=(weights, moments, sharding.named(mesh, "completion")),
          donate_argnums=(0, 1),
      )
      # Twice: what comes out must go in again, and compile nothing.
      for name in ("first", "second"):
        if name == "first":
          state = sharding.place(
              mesh, (params, jax.device_get(opt_state)), (weights, moments)
          )
        *state, scores = program(*state, *sharding.place(mesh, rows, split))
        if name == "first":
          record(f"{shape}", (*state, scores))
      assert program._cache_size() == 1, program._cache_size()
      for part, tree in (("params", state[0]), ("moments", state[1])):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
          path = jax.tree_util.keystr(path, simple=True, separator=".")
          local = leaf.addressable_shards[0].data.shape
          result[f"shard/{shape}/{part}/{path}"] = np.array(local, int)
    np.savez(sys.argv[2], **result)
"""


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
  """Outputs of one training step, whole and on each mesh, and shard shapes."""
  path = tmp_path_factory.mktemp("eight") / "result.npz"
  flags = "--xla_force_host_platform_device_count=8"
  done = subprocess.run(
      [
          *(sys.executable, "-W", "error", "-c", textwrap.dedent(CHILD)),
          *(EMBEDDED, path),
      ],
      env=os.environ
      | {
          "JAX_PLATFORMS": "cpu",
          "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
      },
      capture_output=True,
      text=True,
      timeout=280,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  with np.load(path) as arrays:
    return dict(arrays)


@pytest.mark.parametrize("shape", MESHES)
def test_a_step_is_the_same_on_every_mesh(eight, shape):
  names = [name for name in eight if name.startswith("whole/")]
  assert len(names) == 26 + (1 + 2 * 26) + 2  # params, Adam, scores
  for name in names:
    found = eight[name.replace("whole", str(shape))]
    np.testing.assert_allclose(found, eight[name], rtol=1e-5, atol=1e-5)


def test_the_step_changed_something(eight):
  params = checkpoints.load(EMBEDDED).params
  before = np.asarray(jax.tree.leaves(params)[0])
  assert np.abs(eight["whole/0"] - before).max() > 1e-4


@pytest.mark.parametrize(
    "shape, embedding, kernel, bias, down",
    [
        ((8, 1, 1), [20, 64], [64, 64], [64], [128, 64]),
        ((2, 4, 1), [20, 16], [16, 64], [64], [128, 16]),
        ((2, 2, 2), [10, 32], [32, 32], [32], [64, 32]),
    ],
)
def test_each_device_holds_its_part(
    eight, shape, embedding, kernel, bias, down
):
  def shards(part, prefix, *names):
    key = f"shard/{shape}/{part}/{prefix}"
    return [eight[f"{key}{name}.value"].tolist() for name in names]

  names = (
      "embed_tokens.embedding",
      "layers.0.self_attn.q_proj.kernel",
      "layers.0.self_attn.k_proj.kernel",
      "layers.0.self_attn.o_proj.kernel",
      "layers.1.self_attn.v_proj.bias",
      "layers.1.mlp.down_proj.kernel",
      "norm.weight",
  )
  expected = [embedding, kernel, kernel, kernel[::-1], bias, down, [64]]
  assert shards("params", "", *names) == expected
  assert shards("moments", "0.mu.", *names) == expected
  assert shards("moments", "0.nu.", *names) == expected
  assert eight[f"shard/{shape}/moments/0.count"].tolist() == []
