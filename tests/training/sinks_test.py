"""Files of numbers: whole lines, no step twice, whatever kills the writer."""

import glob
import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from poise_jax.training import sinks


@pytest.fixture
def path(tmp_path):
  return tmp_path / "run" / "metrics.jsonl"


def write(path, steps, start_step=0, **options):
  sink = sinks.to_jsonl(path, start_step=start_step, **options)
  for step in steps:
    sink(step, {"loss": float(step)})
  sink.close()


def steps_in(path):
  return [record.step for record in sinks.read_jsonl(path)]


def test_one_line_a_step_with_its_time(path):
  sink = sinks.to_jsonl(path, now=lambda: 12.5)
  sink(0, {"loss": 0.25, "time/step": 3.0})
  sink(2, {"loss": -1.0})
  sink.close()
  assert path.read_text() == (
      '{"step": 0, "time": 12.5, "values": {"loss": 0.25, "time/step": 3.0}}\n'
      '{"step": 2, "time": 12.5, "values": {"loss": -1.0}}\n'
  )
  assert sinks.read_jsonl(path)[1] == (2, 12.5, {"loss": -1.0}, {}, {})


def test_numbers_come_back_as_they_were(path):
  numbers = {"a": 0.1, "b": 1e-300, "c": -0.0, "d": 2.0**53, "step": 7.0}
  sink = sinks.to_jsonl(path)
  sink(0, numbers)
  sink.close()
  assert sinks.read_jsonl(path)[0].values == numbers


def test_what_is_not_finite_is_null_with_a_note(path):
  sink = sinks.to_jsonl(path)
  sink(0, {"a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 1.0})
  sink.close()

  def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")

  json.loads(path.read_text(), parse_constant=refuse)
  (record,) = sinks.read_jsonl(path)
  assert record.values == {"a": None, "b": None, "c": None, "d": 1.0}
  assert record.not_finite == {"a": "nan", "b": "inf", "c": "-inf"}


def test_names_that_utf8_cannot_hold_are_escaped(path):
  sink = sinks.to_jsonl(path)
  sink(0, {"\ud800": 1.0, "ü\n": 2.0})
  sink.close()
  assert path.read_bytes().count(b"\n") == 1
  assert sinks.read_jsonl(path)[0].values == {"\\ud800": 1.0, "ü\n": 2.0}


def test_the_file_is_on_disk_before_it_is_closed(path):
  sink = sinks.to_jsonl(path)
  sink(0, {"loss": 1.0})
  assert steps_in(path) == [0]
  sink.close()
  sink.close()
  with pytest.raises(ValueError, match="closed file"):
    sink(1, {"loss": 1.0})


@pytest.mark.parametrize("start_step", range(6))
def test_a_resumed_run_repeats_no_step(path, start_step):
  write(path, range(5))
  before = path.read_bytes().splitlines(keepends=True)
  write(path, [], start_step)
  assert path.read_bytes() == b"".join(before[:start_step])
  write(path, [start_step, start_step + 1], start_step)
  kept = list(range(min(start_step, 5)))
  assert steps_in(path) == [*kept, start_step, start_step + 1]


@pytest.mark.parametrize("step", [0, 3, -1])
def test_a_step_is_written_once_and_in_order(path, step):
  write(path, range(3))
  sink = sinks.to_jsonl(path, start_step=3)
  sink(3, {})
  with pytest.raises(ValueError, match=r"`step` must be at least 4 .*, got"):
    sink(step, {"loss": 1.0})
  sink.close()
  assert steps_in(path) == [0, 1, 2, 3]


def test_a_negative_start_is_refused(path):
  with pytest.raises(ValueError, match="`start_step` must not be negative"):
    sinks.to_jsonl(path, start_step=-1)


LINE = b'{"step": 1, "time": 0.0, "values": {"loss": 1.0}}\n'


@pytest.mark.parametrize("size", range(len(LINE) + 1))
def test_a_line_torn_anywhere_is_dropped(path, size):
  write(path, [0])
  with open(path, "ab") as file:
    file.write(LINE[:size])
  whole = size >= len(LINE) - 1
  assert steps_in(path) == ([0, 1] if whole else [0])
  write(path, [2], start_step=2)
  assert steps_in(path) == ([0, 1, 2] if whole else [0, 2])


def test_zeros_left_by_a_power_cut_are_dropped(path):
  write(path, [0])
  with open(path, "ab") as file:
    file.write(LINE[:9] + bytes(100))
  write(path, [1], start_step=1)
  assert steps_in(path) == [0, 1]


@pytest.mark.parametrize(
    "content",
    [
        b"my notes",
        b"my notes\n",
        b"[1, 2]\n",
        b'{"stop": 1}\n',
        b'{"step": "1"}\n',
        b'{"step": true}\n',
        b'{"step": 2}\n{"step": 1}\n',
        b'{"step": 1\n{"step": 2}\n',
        b"\xff\xfe\x00\x01",
        b"\n",
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(path, content):
  path.parent.mkdir()
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"line \d of .*metrics.jsonl is not"):
    sinks.to_jsonl(path)
  assert path.read_bytes() == content


def test_lines_of_something_else_are_no_metrics(path):
  path.parent.mkdir()
  path.write_bytes(b'{"step": 0, "prompt": "1+1="}\n')
  with pytest.raises(ValueError, match="a line has no 'time'"):
    sinks.read_jsonl(path)


_WRITER = """
import sys
from poise_jax.training import sinks
sink = sinks.to_jsonl(sys.argv[1], start_step=int(sys.argv[2]))
print("ready", flush=True)
step = int(sys.argv[2])
while True:
  sink(step, {f"metric/{i}": step + i / 7 for i in range(200)})
  step += 1
"""


def test_a_killed_writer_leaves_whole_lines_and_can_go_on(path):
  start = 0
  for _ in range(3):
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), str(start)],
        stdout=subprocess.PIPE,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    with child:
      assert child.stdout.readline() == b"ready\n"
      while len(steps_in(path)) < start + 20:
        assert child.poll() is None
      child.send_signal(signal.SIGKILL)
    records = sinks.read_jsonl(path)
    assert [r.step for r in records] == list(range(len(records)))
    assert all(r.values["metric/7"] == r.step + 1 for r in records)
    # As from a checkpoint some steps before the kill.
    start = len(records) - 5
  assert start > 20


_FULL_DISK = """
import resource, sys
from poise_jax.training import sinks
sink = sinks.to_jsonl(sys.argv[1])
sink(0, {"loss": 1.0})
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
  sink(1, {f"metric/{i}": 1.0 for i in range(100)})
except OSError as error:
  print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
sink(1, {"loss": 2.0})
sink.close()
"""


def test_a_line_that_does_not_fit_is_taken_back(path):
  child = subprocess.run(
      [sys.executable, "-c", _FULL_DISK, str(path)],
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      check=False,
  )
  assert (child.returncode, child.stdout) == (0, "File too large\n")
  assert [r.values for r in sinks.read_jsonl(path)] == [
      {"loss": 1.0},
      {"loss": 2.0},
  ]


def recording(events, name):
  return sinks.Sink(
      lambda step, values: events.append((name, step, dict(values))),
      lambda: events.append((name, "closed")),
  )


def test_combined_sinks_all_get_everything_in_order():
  events = []
  both = sinks.combine(recording(events, "a"), recording(events, "b"))
  both(3, {"loss": 1.0})
  both.close()
  assert events == [
      ("a", 3, {"loss": 1.0}),
      ("b", 3, {"loss": 1.0}),
      ("a", "closed"),
      ("b", "closed"),
  ]
  sinks.combine()(0, {"loss": 1.0})
  sinks.combine().close()


def test_a_sink_that_fails_does_not_starve_the_others():
  events = []

  def fail(*args):
    raise ConnectionError("no network")

  broken = sinks.Sink(fail, fail)
  both = sinks.combine(broken, recording(events, "b"))
  with pytest.raises(ConnectionError, match="no network"):
    both(0, {})
  with pytest.raises(ConnectionError, match="no network"):
    both.close()
  assert events == [("b", 0, {}), ("b", "closed")]


def scalars(directory):
  """Reads event files back: (step, tag) -> value, as TensorBoard would."""
  from tensorboardX.proto import event_pb2

  found = {}
  for name in sorted(glob.glob(f"{directory}/events*")):
    with open(name, "rb") as file:
      data = file.read()
    while data:
      (size,) = struct.unpack("<Q", data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + size])
      data = data[16 + size :]
      if event.HasField("session_log"):
        # What START means to TensorBoard.
        found = {k: v for k, v in found.items() if k[0] < event.step}
      for value in event.summary.value:
        found[event.step, value.tag] = value.simple_value
  return found


def test_tensorboard_reads_what_was_written(tmp_path):
  sink = sinks.to_tensorboard(tmp_path)
  for step in range(4):
    sink(step, {"reward": step / 4, "time/step": 2.0})
  sink.close()
  found = scalars(tmp_path)
  assert len(found) == 8
  assert found[3, "reward"] == 0.75 and found[0, "time/step"] == 2.0


def test_tensorboard_repeats_no_step_and_takes_anything(tmp_path):
  for start, stop in ((0, 4), (2, 3)):
    sink = sinks.to_tensorboard(tmp_path, start_step=start)
    for step in range(start, stop):
      sink(step, {"reward": float(start), "\ud800": float("nan")})
    sink.close()
  found = scalars(tmp_path)
  rewards = {k: v for k, v in found.items() if k[1] == "reward"}
  assert sorted(rewards) == [(s, "reward") for s in range(3)]
  assert [rewards[s, "reward"] for s in range(3)] == [0.0, 0.0, 2.0]
  assert len(found) == 6


_WANDB = """
import sys
from poise_jax.training import sinks
directory, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sink = sinks.to_wandb(
    project="p", run_id="run-1", directory=directory, config={"seed": 3})
for step in range(first, last):
  sink(step, {"reward": step / 4, "loss": float("nan")})
sink.close()
"""


def wandb_history(file):
  """Reads the log of an offline run: step -> {name: value}."""
  from wandb.proto import wandb_internal_pb2

  with open(file, "rb") as stream:
    data = stream.read()
  found, offset = {}, 7
  while offset < len(data):
    _, size, kind = struct.unpack("<IHB", data[offset : offset + 7])
    assert kind == 1, "a record that spans blocks: read it in pieces"
    offset += 7
    record = wandb_internal_pb2.Record.FromString(data[offset : offset + size])
    offset += size
    if record.HasField("history"):
      items = {
          item.key or ".".join(item.nested_key): json.loads(item.value_json)
          for item in record.history.item
      }
      found[items["_step"]] = items
  return found


def test_wandb_keeps_the_run_offline(tmp_path):
  environment = os.environ | {
      "JAX_PLATFORMS": "cpu",
      "WANDB_MODE": "offline",
      "WANDB_CONFIG_DIR": str(tmp_path / "config"),
      "WANDB_CACHE_DIR": str(tmp_path / "cache"),
      "WANDB_DATA_DIR": str(tmp_path / "data"),
      "HOME": str(tmp_path),
  }
  child = subprocess.run(
      [sys.executable, "-c", _WANDB, str(tmp_path / "logs"), "0", "3"],
      env=environment,
      cwd=tmp_path,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
  )
  unstarted = ("ServicePollForTokenError", "WandbServiceConnectionError")
  if any(name in child.stderr for name in unstarted):
    pytest.skip(f"wandb cannot start here: {child.stderr[-300:]}")
  assert child.returncode == 0, child.stderr
  (file,) = glob.glob(f"{tmp_path}/logs/wandb/offline-run-*/run-run-1.wandb")
  history = wandb_history(file)
  assert sorted(history) == [0, 1, 2]
  assert [history[step]["reward"] for step in range(3)] == [0.0, 0.25, 0.5]


def _to_wandb(folder):
  return sinks.to_wandb(project="p", run_id="r", directory=folder, config={})


@pytest.mark.parametrize(
    "module, make, extra",
    [
        ("tensorboardX", sinks.to_tensorboard, "tensorboard"),
        ("wandb", _to_wandb, "wandb"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch, tmp_path, module, make, extra
):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(ImportError, match=rf"install 'poise_jax\[{extra}\]'`"):
    make(tmp_path)


def test_neither_package_is_needed_to_write_jsonl(path):
  program = (
      "import sys; sys.modules['wandb'] = sys.modules['tensorboardX'] = None\n"
      "from poise_jax.training import sinks\n"
      f"sinks.to_jsonl({str(path)!r})(0, {{'loss': 1.0}})"
  )
  subprocess.run(
      [sys.executable, "-W", "ignore::ResourceWarning", "-c", program],
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      check=True,
  )
  assert steps_in(path) == [0]
