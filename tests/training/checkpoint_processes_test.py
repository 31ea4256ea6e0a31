"""Checkpoints in processes of their own: killed, on meshes, two at a time."""

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.training import checkpoint


def test_nothing_is_said(tmp_path):
  source = """
    import sys
    import jax.numpy as jnp
    from poise_jax.training import checkpoint
    for start in (0, 3):
      with checkpoint.open(
          sys.argv[1], checkpoint.Retention(1, 0), fingerprint={}
      ) as checkpoints:
        for step in range(start, start + 3):
          checkpoints.save(step, {"x": jnp.ones(3)}, {}, {})
        checkpoints.restore(step, {"x": jnp.ones(3)})
    with checkpoint.read(sys.argv[1]) as checkpoints:
      checkpoints.restore(5, {"x": jnp.ones(3)})
  """
  assert run(source, tmp_path) == ""


def run(source, *arguments, **environment):
  """What a child that ends well says, on both streams."""
  child = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      timeout=300,
      env=os.environ | environment,
  )
  assert child.returncode == 0, child.stdout
  return child.stdout


def test_restores_onto_other_meshes(tmp_path):
  source = """
    import sys
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec as P
    import numpy as np
    from poise_jax.training import checkpoint

    rng = np.random.default_rng(0)
    values = {
        "w": rng.standard_normal((16, 8)).astype(np.float32),
        "b": rng.standard_normal(16).astype(jnp.bfloat16),
        "replicated": np.arange(5),
        "scalar": np.array(-0.0, np.float32),
    }
    values["w"][3, 4] = np.nan
    specs = {"w": P("a", "b"), "b": P("a"), "replicated": P(), "scalar": P()}

    def shardings(shape):
      mesh = jax.make_mesh(
          shape, ("a", "b"), devices=jax.devices()[: shape[0] * shape[1]],
          axis_types=(jax.sharding.AxisType.Auto,) * 2)
      return {name: NamedSharding(mesh, s) for name, s in specs.items()}

    values["replicated"] = values["replicated"].astype(np.int32)
    start = jax.device_put(values, shardings((8, 1)))
    with checkpoint.open(
        sys.argv[1], checkpoint.Retention(), fingerprint={}
    ) as checkpoints:
      checkpoints.save(1, start, {}, {})
      for shape in [(2, 4), (1, 1), (4, 2), (8, 1)]:
        wanted = shardings(shape)
        like = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=wanted[name])
            for name, x in values.items()
        }
        found, _ = checkpoints.restore(1, like)
        for name, x in found.items():
          assert x.sharding == wanted[name], (name, x.sharding)
          assert len(x.sharding.device_set) == shape[0] * shape[1]
          assert np.asarray(x).tobytes() == values[name].tobytes(), name
        print(shape)
      odd = jax.sharding.NamedSharding(
          wanted["w"].mesh, P(None, ("a", "b")))
      like["replicated"] = jax.ShapeDtypeStruct(
          (5,), np.int32, sharding=NamedSharding(odd.mesh, P("a")))
      try:
        checkpoints.restore(1, like)
      except ValueError as error:
        print(error)
  """
  eight = "--xla_force_host_platform_device_count=8"
  flags = f"{os.environ['XLA_FLAGS']} {eight}"
  said = run(source, tmp_path, XLA_FLAGS=flags).splitlines()
  assert said[:4] == ["(2, 4)", "(1, 1)", "(4, 2)", "(8, 1)"]
  assert "['replicated'] cannot be laid out so" in said[4]


def test_two_processes_write_and_read_one_checkpoint(tmp_path):
  source = """
    import sys
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec as P
    import numpy as np
    from poise_jax.training import checkpoint

    directory, port, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((4,), ("x",), axis_types=kinds)
    value = np.arange(32, dtype=np.float32).reshape(8, 4)

    def spread(spec, step):
      return jax.make_array_from_callback(
          value.shape, NamedSharding(mesh, spec), lambda i: value[i] + step)

    def tree(spec, step):
      return {"w": spread(spec, step), "all": spread(P(), step),
              "history": np.arange(3) + step, "n": step}

    with checkpoint.open(
        directory, checkpoint.Retention(1, 1), fingerprint={"a": 1}
    ) as checkpoints:
      assert checkpoints.latest() is None
      for step in range(4):
        checkpoints.save(
            step, tree(P("x"), step), {"step": step}, {"reward": -step})
      assert checkpoints.steps() == [0, 3], checkpoints.steps()
      assert checkpoints.best() == 0
    with checkpoint.open(
        directory, checkpoint.Retention(1, 1), fingerprint={"a": 1}
    ) as checkpoints:
      found, meta = checkpoints.restore(3, tree(P(None, "x"), 0))
      assert meta == {"step": 3}
      expected = tree(P(None, "x"), 3)
      assert found["w"].sharding == expected["w"].sharding
      for name in ("w", "all"):
        for a, b in zip(found[name].addressable_shards,
                        expected[name].addressable_shards, strict=True):
          np.testing.assert_array_equal(a.data, b.data)
      np.testing.assert_array_equal(found["history"], expected["history"])
      assert found["n"] == 3
    print("fine")
  """
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  two = "--xla_force_host_platform_device_count=2"
  environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {two}"}
  command = [sys.executable, "-c", textwrap.dedent(source), tmp_path, str(port)]
  processes = [
      subprocess.Popen(
          [*command, str(index)],
          stdout=subprocess.PIPE,
          stderr=subprocess.STDOUT,
          text=True,
          env=environment,
      )
      for index in range(2)
  ]
  try:
    said = [process.communicate(timeout=120)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [text.splitlines()[-1] for text in said] == ["fine", "fine"], said
  # What they wrote, one process on one device reads.
  like = {
      "w": jnp.zeros((8, 4)),
      "all": jnp.zeros((8, 4)),
      "history": np.zeros(3, int),
      "n": 0,
  }
  with checkpoint.read(tmp_path, fingerprint={"a": 1}) as checkpoints:
    found, _ = checkpoints.restore(3, like)
  expected = np.arange(32, dtype=np.float32).reshape(8, 4) + 3
  np.testing.assert_array_equal(found["w"], expected)
  np.testing.assert_array_equal(found["all"], expected)


SAVER = """
import sys
import jax.numpy as jnp, numpy as np
from poise_jax.training import checkpoint

def arrays(step):
  rng = np.random.default_rng(step)
  return {f"layer {i}": jnp.asarray(rng.standard_normal(20_000), jnp.bfloat16)
          for i in range(20)} | {"step": step}

with checkpoint.open(
    sys.argv[1], checkpoint.Retention(2, 1), fingerprint={"seed": 1}
) as checkpoints:
  latest = checkpoints.latest()
  start = 0 if latest is None else latest + 1
  if start:
    found, meta = checkpoints.restore(latest, arrays(0))
    expected = arrays(latest)
    assert meta == {"step": latest}
    assert found["step"] == latest
    for name, x in expected.items():
      assert np.asarray(x).tobytes() == np.asarray(found[name]).tobytes()
  print("begun", start, flush=True)
  for step in range(start, start + 10_000):
    checkpoints.save(
        step, arrays(step), {"step": step}, {"reward": -abs(step - 20)})
    if step % 3 == 0:
      checkpoints.wait()
      print("whole", step, flush=True)
"""


def _killed(directory, delay):
  """Runs the saver, kills it so long after its first save.

  Returns:
    Its first step, and the last step that it knew to be whole.
  """
  with subprocess.Popen(
      [sys.executable, "-c", SAVER, directory],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  ) as child:
    line = child.stdout.readline().split()
    assert line[:1] == ["begun"], child.stderr.read()
    whole = int(child.stdout.readline().split()[1])
    time.sleep(delay)
    os.kill(child.pid, signal.SIGKILL)
    for text in child.stdout:
      if text.endswith("\n"):
        whole = int(text.split()[1])
  assert child.returncode == -signal.SIGKILL
  return int(line[1]), whole


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_what_was_whole_survives_kill_9(tmp_path, kills):
  rng = random.Random(kills)
  whole, unfinished = -1, 0
  for _ in range(kills):
    # That it starts means that it restored the latest step, bit for bit.
    start, last = _killed(tmp_path, rng.uniform(0, 0.5))
    assert start > whole
    whole = last
    unfinished += any("tmp" in path.name for path in tmp_path.iterdir())
  assert unfinished or kills < 10, "no kill came during a save"
  with checkpoint.open(
      tmp_path, checkpoint.Retention(2, 1), fingerprint={"seed": 1}
  ) as checkpoints:
    steps = checkpoints.steps()
    assert steps[-1] >= whole
    assert len(steps) in (2, 3, 4)  # one may be on its way out
    for step in steps:
      assert checkpoints.record(step).meta == {"step": step}
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {".lock", *map(str, steps)}


def test_a_save_that_fails_leaves_the_steps_before(tmp_path):
  source = """
    import resource, sys
    import jax.numpy as jnp
    import numpy as np
    from poise_jax.training import checkpoint
    small = {"x": jnp.ones(3)}
    noise = np.random.default_rng(0).standard_normal(1_000_000)
    with checkpoint.open(
        sys.argv[1], checkpoint.Retention(1, 0), fingerprint={}
    ) as checkpoints:
      checkpoints.save(1, small, {}, {})
      checkpoints.wait()
      # A disk that is full, as far as this process can tell.
      resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))
      try:
        checkpoints.save(2, {"x": noise}, {}, {"reward": 1.0})
        checkpoints.wait()
      except OSError as error:
        print(error)
      print(checkpoints.steps(), checkpoints.latest())
      checkpoints.restore(1, small)
      checkpoints.save(3, small, {}, {})
      print(checkpoints.steps())
  """
  said = run(source, tmp_path)
  first = next(line for line in said.splitlines() if "cannot save" in line)
  assert "the steps [1] are unharmed" in said
  assert str(tmp_path) in first
  assert said.splitlines()[-2:] == ["[1] 1", "[3]"]
