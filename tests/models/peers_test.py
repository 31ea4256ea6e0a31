"""Every family against `transformers`, on 1 and on 8 devices, in and out."""

import json
import os
import subprocess
import sys
import textwrap

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import checkpoints, kv_cache, transformer

SIZES = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    # Large enough for heads to look somewhere.
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}
# Name -> class of the config, its fields.
FAMILIES = {
    "qwen2-tied": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen2-untied": ("Qwen2Config", {"tie_word_embeddings": False}),
    "qwen3-tied": (
        "Qwen3Config",
        {"tie_word_embeddings": True, "head_dim": 16},
    ),
    "qwen3-untied": (
        "Qwen3Config",
        {"tie_word_embeddings": False, "head_dim": 12},
    ),
    "llama-llama3": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "llama-linear": (
        "LlamaConfig",
        {"rope_parameters": LINEAR, "tie_word_embeddings": True},
    ),
}
LENGTH, STARTS = 40, (0, 7, 31, 1, 12, 5, 39, 20)


def _tokens():
  tokens = np.random.default_rng(0).integers(4, 48, (len(STARTS), LENGTH))
  filled = np.arange(LENGTH) >= np.array(STARTS)[:, None]
  return np.where(filled, tokens, 0).astype(np.int32), filled


def _theirs(model):
  """Logits of `transformers` on rows padded at the left."""
  torch = pytest.importorskip("torch")
  tokens, filled = _tokens()
  positions = np.maximum(np.arange(LENGTH) - np.array(STARTS)[:, None], 0)
  with torch.no_grad():
    return model(
        torch.as_tensor(tokens, dtype=torch.long),
        attention_mask=torch.as_tensor(filled, dtype=torch.long),
        position_ids=torch.as_tensor(positions, dtype=torch.long),
    ).logits.numpy()


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
  """A directory a family, written by `transformers`, and its logits."""
  torch = pytest.importorskip("torch", reason="needs the `bench` extra")
  transformers = pytest.importorskip("transformers")
  root, logits = tmp_path_factory.mktemp("peers"), {}
  for name, (kind, fields) in FAMILIES.items():
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**SIZES, **fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
      for key, weight in model.named_parameters():
        if "norm" in key or key.endswith("bias"):
          weight += 0.3 * torch.randn_like(weight)
    model.save_pretrained(root / name)
    logits[name] = _theirs(model)
  return root, logits


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_on_padded_rows(peers, name):
  root, logits = peers
  checkpoint = checkpoints.load(root / name)
  tokens, filled = _tokens()

  @jax.jit
  def run(params):
    model = nnx.merge(checkpoint.graphdef, params)
    states, _ = model.hidden(jnp.asarray(tokens), starts=jnp.array(STARTS))
    return model.logits(states)

  found = run(checkpoint.params)
  np.testing.assert_allclose(found[filled], logits[name][filled], atol=1e-4)
  assert np.std(logits[name]) > 0.3  # they say something
  assert checkpoint.tokens == ((2, 3), 1, 0)


@pytest.mark.parametrize("name", ["qwen3-tied", "llama-llama3"])
def test_decoding_padded_rows(peers, name):
  root, logits = peers
  checkpoint = checkpoints.load(root / name)
  tokens, filled = _tokens()
  starts, prompt = jnp.array(STARTS), 32

  @jax.jit
  def run(params):
    model = nnx.merge(checkpoint.graphdef, params)
    _, cache = model.hidden(jnp.asarray(tokens[:, :prompt]), starts=starts)
    cache = tuple(kv_cache.extend(layer, LENGTH - prompt) for layer in cache)
    slots = jnp.arange(LENGTH)

    def advance(cache, slot):
      mask = (slots >= starts[:, None]) & (slots <= slot)
      # A row that has not begun sees itself, and says nothing.
      mask |= slots == slot
      places = jnp.maximum(slot - starts, 0)
      column = jnp.take(jnp.asarray(tokens), slot, axis=1)
      logits, cache = model.decode(column, slot, cache, places, mask)
      return cache, logits

    return jax.lax.scan(advance, cache, slots[prompt:])[1].swapaxes(0, 1)

  found = run(checkpoint.params)
  seen = filled[:, prompt:]
  np.testing.assert_allclose(
      found[seen], logits[name][:, prompt:][seen], atol=1e-4
  )


@pytest.mark.parametrize(
    "name, size",
    [(name, 5_000_000_000) for name in FAMILIES] + [("qwen3-untied", 20_000)],
)
def test_in_and_out_and_in_again(peers, tmp_path, name, size):
  root, logits = peers
  transformers = pytest.importorskip("transformers")
  first = checkpoints.load(root / name)
  checkpoints.save(
      tmp_path / "out",
      first.config,
      first.params,
      source=root / name,
      max_file_bytes=size,
  )
  again = checkpoints.load(tmp_path / "out")
  assert (again.config, again.graphdef) == (first.config, first.graphdef)
  assert again.tokens == first.tokens
  jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
  theirs, loading = transformers.AutoModelForCausalLM.from_pretrained(
      tmp_path / "out", output_loading_info=True
  )
  assert not any(loading[key] for key in ("missing_keys", "unexpected_keys"))
  _, filled = _tokens()
  np.testing.assert_array_equal(
      _theirs(theirs.eval())[filled], logits[name][filled]
  )
  assert theirs.config.eos_token_id == [2, 3]
  before = json.loads((root / name / "config.json").read_text())
  assert theirs.config.initializer_range == before["initializer_range"]


def test_bfloat16_by_transformers_is_read_as_stored(peers, tmp_path):
  transformers = pytest.importorskip("transformers")
  torch = pytest.importorskip("torch")
  root, _ = peers
  model = transformers.AutoModelForCausalLM.from_pretrained(
      root / "qwen3-untied", dtype=torch.bfloat16
  )
  model.save_pretrained(tmp_path / "half", max_shard_size="10KB")
  assert (tmp_path / "half" / "model.safetensors.index.json").is_file()
  half = checkpoints.load(tmp_path / "half", dtype=None).params
  whole = checkpoints.load(root / "qwen3-untied").params
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), whole)
  jax.tree.map(np.testing.assert_array_equal, half, rounded)


# Runs in a process of its own, with 8 devices: the root, where results go.
CHILD = """
    import functools
    import pathlib
    import sys

    from flax import nnx
    import jax
    import numpy as np

    from poise_jax import sharding
    from poise_jax.models import checkpoints, logical_axes

    root = pathlib.Path(sys.argv[1])
    rows = np.load(root / "rows.npz")
    mesh = sharding.make_mesh(sharding.MeshConfig(2, 2, 2))
    result = {}
    for directory in sorted(path for path in root.iterdir() if path.is_dir()):
      policy = checkpoints.load(
          directory,
          shardings=functools.partial(logical_axes.parameter_shardings, mesh),
      )
      wanted = logical_axes.parameter_shardings(mesh, policy.params)
      for leaf, place in zip(
          *map(jax.tree.leaves, (policy.params, wanted)), strict=True
      ):
        assert leaf.sharding == place

      def run(params, tokens, starts):
        model = nnx.merge(policy.graphdef, params)
        unrolled, _ = model.hidden(tokens, starts=starts)
        scanned, _ = model.hidden(tokens, starts=starts, scan=True)
        return model.logits(unrolled), model.logits(scanned)

      args = sharding.place(mesh, (rows["tokens"], rows["starts"]))
      with jax.set_mesh(mesh):
        outputs = jax.jit(run)(policy.params, *args)
      for way, output in zip(("unrolled", "scanned"), outputs):
        result[f"{directory.name}/{way}"] = sharding.fetch(output)
      checkpoints.save(
          root / "out" / directory.name, policy.config, policy.params
      )
    np.savez(root / "result.npz", **result)
"""


@pytest.fixture(scope="module")
def eight(peers):
  """Logits of every family on a mesh of 8 devices, and what it exported."""
  root, _ = peers
  tokens, _ = _tokens()
  np.savez(root / "rows.npz", tokens=tokens, starts=np.array(STARTS, np.int32))
  flags = "--xla_force_host_platform_device_count=8"
  done = subprocess.run(
      [sys.executable, "-W", "error", "-c", textwrap.dedent(CHILD), root],
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
  with np.load(root / "result.npz") as arrays:
    return dict(arrays)


@pytest.mark.parametrize("name", FAMILIES)
def test_eight_devices_say_the_same(peers, eight, name):
  root, logits = peers
  _, filled = _tokens()
  for way in ("unrolled", "scanned"):
    np.testing.assert_allclose(
        eight[f"{name}/{way}"][filled], logits[name][filled], atol=1e-4
    )
  # Each device read its part, and together they wrote the whole.
  first = checkpoints.load(root / name).params
  again = checkpoints.load(root / "out" / name).params
  jax.tree.map(np.testing.assert_array_equal, again, first)


def test_the_families_are_all_here():
  named = {name.partition("-")[0] for name in FAMILIES}
  assert named == set(transformer.families.FAMILIES)
