"""What stands beside the values of a step, and what tells a run from others."""

from poise_jax.training import sinks


def test_parts_stand_beside_the_values(tmp_path):
  path = tmp_path / "metrics.jsonl"
  sink = sinks.to_jsonl(path)
  sink.write(0, {"reward": 0.75, "loss": 1.0}, {"reward": [3.0, 4.0]})
  sink(1, {"reward": 0.5})
  sink.close()
  first, second = sinks.read_jsonl(path)
  assert first.values == {"reward": 0.75, "loss": 1.0}
  assert (first.parts, second.parts) == ({"reward": [3.0, 4.0]}, {})


def test_two_directories_of_one_name_are_two_runs(tmp_path):
  folders = [tmp_path / parent / "seed0" for parent in "ab"]
  first, second = map(sinks.run_id, folders)
  assert first != second and first.isalnum()
  # As after a resume, or under another name.
  assert [*map(sinks.run_id, folders)] == [first, second]
  assert sinks.run_id(folders[0].rename(tmp_path / "moved")) == first
  assert [path.name for path in folders[1].iterdir()] == ["run_id"]
