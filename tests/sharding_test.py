"""Meshes of 8 virtual devices, and two real processes on the loopback."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap

import jax
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from poise_jax import sharding, types

Config = sharding.MeshConfig


def start(code, devices, **variables):
  """A child process that sees `devices` CPU devices."""
  flags = f"--xla_force_host_platform_device_count={devices}"
  environ = os.environ | {
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
  }
  return subprocess.Popen(
      [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
      env=environ | variables,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def run(*processes):
  """What each of them printed, as JSON; none is left behind."""
  with contextlib.ExitStack() as stack:
    for process in processes:
      stack.enter_context(process)
      stack.callback(process.kill)
    ends = [process.communicate(timeout=200) for process in processes]
  for process, (_, err) in zip(processes, ends, strict=True):
    assert process.returncode == 0, err
  # The last line: gloo writes to stdout as well.
  return [json.loads(out.splitlines()[-1]) for out, _ in ends]


@pytest.fixture(scope="module")
def mesh():
  return sharding.make_mesh(Config())


def test_the_table_splits_batch_width_and_heads():
  spec = sharding.spec
  rows = PartitionSpec(("data", "fsdp"))
  assert spec("prompt", "group", "token") == spec("completion") == rows
  assert spec("embed", "heads") == PartitionSpec("fsdp", "tensor")
  assert spec("mlp", "embed") == PartitionSpec("tensor", "fsdp")
  assert spec(None, "vocab") == PartitionSpec(None, "tensor")
  assert spec("kv_heads", None) == PartitionSpec("tensor")
  assert spec() == spec("layer", None) == PartitionSpec()


def test_shardings_of_a_batch_split_what_has_rows(mesh):
  tree = {
      "rows": jax.ShapeDtypeStruct((4, 2), "float32"),
      "vector": np.zeros(4),
      "step": np.int32(1),
      "coefficient": 0.5,
      "key": jax.random.key(0),
  }
  found = {k: v.spec for k, v in sharding.batch_shardings(mesh, tree).items()}
  rows, whole = PartitionSpec(("data", "fsdp")), PartitionSpec()
  assert found.pop("rows") == found.pop("vector") == rows
  assert set(found.values()) == {whole} and len(found) == 3


@pytest.mark.parametrize("size", [0, -1, 2.0, "2"])
def test_sizes_are_whole_numbers(size):
  with pytest.raises((ValueError, TypeError)) as error:
    Config(fsdp=size)
  if isinstance(size, int):
    assert "--config.mesh.fsdp" in str(error.value)


@pytest.mark.parametrize(
    "shape, devices", [((2, 1, 1), 1), ((1, 3, 2), 4), ((2, 2, 1), 8)]
)
def test_a_mesh_uses_every_device(shape, devices):
  with pytest.raises(ValueError) as error:
    sharding.make_mesh(Config(*shape), jax.devices() * devices)
  for axis, size in zip(sharding.MESH_AXES, shape, strict=True):
    assert f"--config.mesh.{axis}={size}" in str(error.value)
  product = shape[0] * shape[1] * shape[2]
  assert f"is {product}, the number of devices is {devices}" in str(error.value)


@pytest.mark.parametrize(
    "shape, slices, expected",
    [
        ((8, 1, 1), 2, (2, 1, 1)),
        ((2, 8, 1), 4, (2, 2, 1)),
        ((1, 8, 2), 2, (1, 2, 1)),
        ((1, 1, 8), 2, (1, 1, 2)),
        ((6, 4, 1), 8, (2, 4, 1)),
    ],
)
def test_slow_networks_carry_the_outer_axes(shape, slices, expected):
  assert sharding.spread(shape, slices) == expected


def test_batches_that_split_evenly_pass():
  sharding.check_batch(Config(2, 4), 64, minibatches=4, micro_batches=2)
  sharding.check_batch(Config(tensor=8), 3, minibatches=3)
  sharding.check_rows(Config(2, 4), 16, "--rows")


def test_a_batch_that_does_not_split_names_the_flags():
  with pytest.raises(ValueError) as error:
    sharding.check_batch(Config(2, 4), 72, minibatches=4, micro_batches=2)
  for part in (
      "--config.train.prompts must be a multiple of 64",
      "--config.train.minibatches=4",
      "--config.train.micro_batches=2",
      "--config.mesh.data=2",
      "--config.mesh.fsdp=4",
      "got 72, use 64 or 128",
  ):
    assert part in str(error.value)
  with pytest.raises(ValueError, match="--config.prompts .* got 4, use 8$"):
    sharding.check_batch(Config(8), 4, section="--config.")
  with pytest.raises(ValueError, match="micro_batches must be at least 1"):
    sharding.check_batch(Config(8), 8, micro_batches=0)


def test_rows_that_do_not_split_name_their_flag():
  with pytest.raises(ValueError, match="^--n must .* of 8, .* use 184 or 192$"):
    sharding.check_rows(Config(2, 4), 190, "--n")


def test_placed_numpy_is_a_copy(mesh):
  array = np.zeros((512, 512), np.float32)
  placed = sharding.place(mesh, array, sharding.replicated(mesh))
  array[:] = 1
  assert not np.any(placed)


def test_a_rollout_batch_can_be_placed(mesh):
  rows, group, scalar = np.ones((2, 3, 4)), np.ones((2, 3)), np.float32(0)
  names = types.RolloutBatch.__dataclass_fields__
  fields = dict.fromkeys(names, group)
  fields |= dict.fromkeys(list(names)[:6], rows) | {
      "reward_components": rows[..., :2],
      "history_pass_rate": rows[:, 0, 0],
      "step": np.int32(3),
      "progress": scalar,
  }
  fields = jax.tree.map(jax.numpy.asarray, fields)
  placed = sharding.place(mesh, types.RolloutBatch(**fields))
  assert placed.rewards.sharding.spec == sharding.spec("prompt")
  assert placed.step.sharding.spec == sharding.spec()
  assert int(placed.step) == 3


def test_a_sharding_of_another_mesh_is_refused(mesh):
  other = jax.make_mesh((1,), ("x",))
  elsewhere = jax.sharding.NamedSharding(other, PartitionSpec())
  with pytest.raises(ValueError, match="all be of `mesh`"):
    sharding.place(mesh, np.zeros(3), elsewhere)


def test_outside_a_mesh_nothing_is_constrained():
  x = jax.numpy.ones(3)
  assert sharding.constrain(x, "prompt") is x


EIGHT = """
    import json
    import jax, numpy as np
    from poise_jax import sharding

    result = {}
    tree = {
        "rows": np.arange(32, dtype=np.float32).reshape(16, 2),
        "step": np.int32(7),
        "key": jax.random.key(5),
        "moved": jax.numpy.arange(8),
    }
    for shape in ((8, 1, 1), (2, 4, 1), (2, 2, 2)):
      mesh = sharding.make_mesh(sharding.MeshConfig(*shape))
      placed = sharding.place(mesh, tree)
      weights = sharding.place(
          mesh, np.ones((8, 4)), sharding.named(mesh, "embed", "mlp")
      )
      with jax.set_mesh(mesh):
        constrained = jax.jit(
            lambda x: sharding.constrain(x + 1, "prompt")
        )(np.zeros((8, 2)))
      shard = lambda x: list(x.sharding.shard_shape(x.shape))
      result[str(shape)] = {
          "mesh": dict(mesh.shape),
          "rows": shard(placed["rows"]),
          "step": shard(placed["step"]),
          "key": shard(placed["key"]),
          "weights": shard(weights),
          "constrained": shard(constrained),
          "same_key": bool(
              jax.random.uniform(placed["key"])
              == jax.random.uniform(tree["key"])
          ),
          "fetched": sharding.fetch(placed["rows"]).tolist(),
          "moved": sharding.fetch(placed["moved"]).tolist(),
      }
    some = sharding.make_mesh(sharding.MeshConfig(2, 2), jax.devices()[4:])
    result["some"] = sorted(device.id for device in some.devices.flat)
    print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def eight():
  return run(start(EIGHT, 8))[0]


@pytest.mark.parametrize(
    "shape, rows, weights",
    [
        ((8, 1, 1), [2, 2], [8, 4]),
        ((2, 4, 1), [2, 2], [2, 4]),
        ((2, 2, 2), [4, 2], [4, 2]),
    ],
)
def test_eight_devices_hold_their_parts(eight, shape, rows, weights):
  found = eight[str(shape)]
  assert found["mesh"] == dict(zip(sharding.MESH_AXES, shape, strict=True))
  assert found["rows"] == rows and found["weights"] == weights
  assert found["step"] == found["key"] == [] and found["same_key"]
  assert found["constrained"] == [8 * rows[0] // 16, 2]
  assert found["fetched"] == np.arange(32).reshape(16, 2).tolist()
  assert found["moved"] == list(range(8))


def test_a_mesh_of_given_devices(eight):
  assert eight["some"] == [4, 5, 6, 7]


TWO = """
    import json, pathlib
    import jax, jax.numpy as jnp, numpy as np
    from poise_jax import sharding
    from poise_jax.models import checkpoints, logical_axes
    from poise_jax.rollout import prompt_batches, scoring

    # Everything is imported before: no import may start the backend.
    sharding.start_processes()
    sharding.start_processes()
    policy = checkpoints.load(
        pathlib.Path(checkpoints.__file__).parent / "embedded_policy"
    )
    rng = np.random.default_rng(0)
    rows = scoring.Rows(
        prompt_batches.Prompts(rng.integers(0, 17, (4, 14)).astype(np.int32)),
        rng.integers(0, 17, (8, 6)).astype(np.int32),
        np.ones((8, 6), np.float32),
    )
    score = scoring.make_score_tokens(policy.graphdef)
    result = {
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "writer": sharding.is_writer(),
    }
    for shape in ((4, 1, 1), (1, 2, 2)):
      mesh = sharding.make_mesh(sharding.MeshConfig(*shape))
      batch = np.arange(12, dtype=np.float32).reshape(4, 3)
      placed = sharding.place(
          mesh,
          {"batch": batch, "key": jax.random.key(3), "jax": jnp.arange(4)},
      )
      split = sharding.batch_shardings(mesh, rows)
      weights = logical_axes.parameter_shardings(mesh, policy.params)
      scores = jax.jit(score, in_shardings=(weights, split))(
          sharding.place(mesh, policy.params, weights),
          sharding.place(mesh, rows, split),
      )
      total = jax.shard_map(
          lambda x: jax.lax.psum(x.sum(), ("data", "fsdp")),
          mesh=mesh,
          in_specs=sharding.spec("prompt"),
          out_specs=sharding.spec(),
      )
      again = sharding.place(
          mesh, placed["batch"], sharding.replicated(mesh)
      )
      draw = jax.jit(
          lambda key: jax.random.key_data(jax.random.fold_in(key, 1))
      )
      result[str(shape)] = sharding.fetch({
          "psum": jax.jit(total)(placed["batch"]),
          "mean": jax.jit(lambda x: x.mean(0))(placed["batch"]),
          "batch": placed["batch"],
          "again": again,
          "jax": placed["jax"],
          "key": draw(placed["key"]),
          "logprobs": scores.logprobs,
      })
      result[str(shape)]["local"] = np.array(
          len(placed["batch"].addressable_shards)
      )
    print(json.dumps(result, default=lambda x: x.tolist()))
"""


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


@pytest.fixture(scope="module")
def two():
  """What each of two processes saw, and one process with their devices."""
  address = f"127.0.0.1:{free_port()}"
  pair = [
      start(
          TWO,
          2,
          JAX_COORDINATOR_ADDRESS=address,
          JAX_NUM_PROCESSES="2",
          JAX_PROCESS_ID=str(index),
      )
      for index in range(2)
  ]
  return *run(*pair), *run(start(TWO, 4))


def test_two_processes_are_one_run(two):
  first, second, alone = two
  assert first["processes"] == second["processes"] == 2
  assert first["devices"] == second["devices"] == 4
  assert (first["writer"], second["writer"]) == (True, False)
  assert alone["processes"] == 1 and alone["devices"] == 4 and alone["writer"]


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 2, 2)])
def test_two_processes_compute_what_one_does(two, shape):
  first, second, alone = (result[str(shape)] for result in two)
  assert first == second
  assert (first.pop("local"), alone.pop("local")) == (2, 4)
  assert first["psum"] == 66.0
  np.testing.assert_allclose(first["mean"], [4.5, 5.5, 6.5])
  whole = np.arange(12).reshape(4, 3).tolist()
  assert first["batch"] == first["again"] == whole
  assert first["jax"] == [0, 1, 2, 3]
  assert first["key"] == alone["key"]
  assert first.keys() == alone.keys()
  np.testing.assert_allclose(
      first["logprobs"], alone["logprobs"], rtol=1e-5, atol=1e-5
  )


SLURM = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    "environ, tpu, expected",
    [
        ({}, False, ""),
        (SLURM, False, "slurm"),
        (SLURM | {"SLURM_NTASKS": "1"}, False, ""),
        ({"SLURM_NTASKS": "2"}, False, ""),  # a batch script, not a step
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True, "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False, ""),
        ({"TPU_WORKER_HOSTNAMES": "a"}, True, ""),
        (
            {"TPU_PROCESS_ADDRESSES": "a", "MEGASCALE_NUM_SLICES": "2"},
            True,
            "gketpu",
        ),
        ({}, True, "gcetpu"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, True, ""),
        ({"JAX_PLATFORMS": "cpu"}, True, ""),
    ],
)
def test_launchers_are_known_by_their_environment(environ, tpu, expected):
  assert sharding.detect_cluster(environ, tpu=tpu) == expected


@pytest.fixture
def lone(monkeypatch):
  for name in (*SLURM, "TPU_WORKER_HOSTNAMES"):
    monkeypatch.delenv(name, raising=False)
  for name in ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID"):
    monkeypatch.delenv(f"JAX_{name}", raising=False)
  return monkeypatch


def test_one_process_starts_nothing(lone):
  sharding.start_processes()
  sharding.start_processes(num_processes=1)
  lone.setenv("JAX_NUM_PROCESSES", "1")
  lone.setenv("SLURM_STEP_NODELIST", "n[1-2]")
  lone.setenv("SLURM_NTASKS", "2")
  sharding.start_processes()
  assert not jax.distributed.is_initialized() and sharding.is_writer()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("h:1",), "--num_processes or JAX_NUM_PROCESSES and --process_id"),
        ((None, 2, 0), "set --coordinator_address or JAX_COORDINATOR_ADDRESS$"),
        (("h:1", 2, 2), "below --num_processes .* got 'h:1', 2 and 2"),
        (("h:1", 2, -1), "at least 0 .*, got 'h:1', -1 and 2"),
        (("h:1", 0, 0), "got 'h:1', 0 and 0"),
        (("h", 2, 0), "host:port of process 0, .*got 'h', 0 and 2"),
    ],
)
def test_what_does_not_fit_together_is_refused(lone, arguments, words):
  with pytest.raises(ValueError, match=words):
    sharding.start_processes(*arguments)


def test_a_variable_that_is_no_number_is_refused(lone):
  lone.setenv("JAX_NUM_PROCESSES", "two")
  with pytest.raises(ValueError, match="JAX_NUM_PROCESSES .* got 'two'"):
    sharding.start_processes()
