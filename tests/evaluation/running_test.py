"""Problems asked of real policies, in batches that change nothing."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tokenizers

from poise_jax import sharding
from poise_jax.evaluation import problem_sets, results, running
from poise_jax.tasks import grading_pool, problem_set

SETTINGS = running.Settings(max_tokens=6, template="none", batch=4)


@pytest.fixture(scope="module")
def policy(checkpoint):
  return running.describe(checkpoint)


def _grade(texts, golds, finished):
  return [
      grading_pool.Grade(gold in text, end, text[:1] or None)
      for text, gold, end in zip(texts, golds, finished, strict=True)
  ]


@pytest.fixture(scope="module")
def scored():
  # Prompts of two widths; answers that are letters.
  problems = [
      problem_set.Problem(
          f"p/{i}", f"{i}?" * (12 if i % 3 == 1 else 1), chr(97 + i)
      )
      for i in range(7)
  ]
  return problem_sets.ScoredSet(
      "AMC", "pass_at_k", 2, 1.0, 0.15, 4096, tuple(problems), _grade
  )


@pytest.fixture(scope="module")
def asked(scored, policy):
  return running.prepare(scored, policy, SETTINGS)


@pytest.fixture(scope="module")
def ask(policy):
  return running.make_ask(policy, SETTINGS)


@pytest.fixture(scope="module")
def whole(asked, ask, tmp_path_factory):
  path = tmp_path_factory.mktemp("whole") / "AMC.jsonl"
  counts = []
  told = lambda count, fresh: counts.append((count, fresh))
  with results.open_writer(path, asked.header, {}) as writer:
    running.run(asked, ask, writer, SETTINGS, on_done=told)
  assert sum(count for count, _ in counts) == 14
  assert all(fresh for _, fresh in counts)
  return path


def test_all_problems_are_there(whole, scored):
  found = results.read(whole).records
  assert set(found) == {p.id for p in scored.problems}
  for record in found.values():
    assert len(record.completions) == 2
    for completion in record.completions:
      assert 1 <= completion.tokens <= 6
      assert completion.finished or completion.tokens == 6
      assert completion.correct == (record.gold in completion.text)


def test_ids_are_hashed(asked, ask, policy, whole):
  (record,) = ask(asked, [0])
  assert record == results.read(whole).records["p/0"]
  for completion in record.completions:
    if completion.finished or "\ufffd" in completion.text:
      continue
    (ids,) = policy.tokenizer.encode([completion.text])
    data = np.array(ids, "<i4").tobytes()
    assert completion.ids_sha256 == hashlib.sha256(data).hexdigest()


def test_another_batch_gives_the_same(whole, asked, policy, tmp_path):
  expected = results.read(whole).records
  settings = SETTINGS._replace(batch=14)
  with results.open_writer(tmp_path / "x", asked.header, {}) as writer:
    ask = running.make_ask(policy, settings)
    running.run(asked, ask, writer, settings)
  assert results.read(tmp_path / "x").records == expected


def test_a_part_gives_the_same(whole, asked, ask, tmp_path):
  expected = results.read(whole).records
  with results.open_writer(tmp_path / "x", asked.header, {}) as writer:
    running.run(asked, ask, writer, SETTINGS, limit=3)
  found = results.read(tmp_path / "x").records
  assert found == {f"p/{i}": expected[f"p/{i}"] for i in range(3)}


@pytest.mark.parametrize("kept", [1, 2, 5, 8])
def test_continued_it_is_the_same_file(whole, asked, ask, tmp_path, kept):
  data = whole.read_bytes()
  path = tmp_path / "AMC.jsonl"
  path.write_bytes(b"".join(data.splitlines(True)[:kept]) + b'{"half')
  calls = []

  def counted(asked, rows):
    calls.append(rows)
    return ask(asked, rows)

  with results.open_writer(path, asked.header, {}) as writer:
    running.run(asked, counted, writer, SETTINGS)
  assert path.read_bytes() == data
  assert sum(map(len, calls)) < 7 + 2 - (kept - 1) + 1


def test_another_seed_and_set_draw_other_samples(asked, scored, policy, whole):
  expected = results.read(whole).records["p/0"]
  settings = SETTINGS._replace(seed=1)
  other = running.prepare(scored, policy, settings)
  assert running.make_ask(policy, settings)(other, [0])[0] != expected
  renamed = dataclasses.replace(scored, name="AIME24")
  other = running.prepare(renamed, policy, SETTINGS)
  assert running.make_ask(policy, SETTINGS)(other, [0])[0] != expected


def test_the_header_names_everything(asked, policy):
  header = asked.header
  assert header["policy"]["checkpoint"] == policy.sha256
  assert header["policy"]["eos_ids"] == [256]
  assert header["prompts"]["template"] == "none"
  assert header["sampling"] == {
      "seed": 0,
      "samples": 2,
      "temperature": 1.0,
      "max_tokens": 6,
      "dtype": "float32",
  }
  assert json.loads(json.dumps(header)) == header


def test_the_header_follows_the_data_and_the_prompts(scored, asked, policy):
  first, *rest = scored.problems
  changed = dataclasses.replace(
      scored, problems=(dataclasses.replace(first, answer="z"), *rest)
  )
  other = running.prepare(changed, policy, SETTINGS).header
  assert other["set"] != asked.header["set"]
  assert other["prompts"] == asked.header["prompts"]
  settings = SETTINGS._replace(template="r1")
  other = running.prepare(scored, policy, settings).header
  assert other["prompts"] != asked.header["prompts"]
  assert other["set"] == asked.header["set"]


def test_problems_that_cannot_be_asked(scored, policy):
  def prepare(text, template="none"):
    problem = problem_set.Problem("p/9", text, "1")
    changed = dataclasses.replace(scored, problems=(problem,))
    return running.prepare(
        changed, policy, SETTINGS._replace(template=template)
    )

  with pytest.raises(ValueError, match="prompt 'p/9' must fit.*8192 tokens"):
    prepare("x" * 8193)
  with pytest.raises(ValueError, match="problem 'p/9'.*special token"):
    prepare("<|endoftext|>", "r1")
  with pytest.raises(ValueError, match="the template must be one of"):
    prepare("1?", "r2")


def test_a_policy_without_the_tokens(checkpoint, scored, tmp_path):
  directory = shutil.copytree(checkpoint, tmp_path / "policy")
  config = json.loads((directory / "config.json").read_text())
  config["vocab_size"] = 30
  (directory / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match="beyond the model's vocabulary of 30"):
    running.prepare(scored, running.describe(directory), SETTINGS)


def _with_turns(checkpoint, directory):
  """A copy of the policy whose vocabulary has the end of a turn."""
  shutil.copytree(checkpoint, directory)
  path = directory / "tokenizer.json"
  tokenizer = tokenizers.Tokenizer.from_file(str(path))
  tokenizer.add_special_tokens(["<|im_end|>"])
  tokenizer.save(str(path))
  return directory


def test_where_completions_end(checkpoint, scored, tmp_path):
  directory = _with_turns(checkpoint, tmp_path / "policy")
  for settings, eos_ids, stop in (
      (None, (256,), ()),
      (running.Settings(), (256, 257), ("<|im_end|>",)),
      (running.Settings(stop=()), (256,), ()),
      (running.Settings(template="none"), (256,), ()),
      (
          running.Settings(template="none", stop=("a", "<|im_end|>")),
          (64, 256, 257),  # Symbols are sorted: ! is 0, a is 64.
          ("a", "<|im_end|>"),
      ),
  ):
    found = running.describe(directory, settings)
    assert (found.tokenizer.eos_ids, found.stop) == (eos_ids, stop), settings
  # A policy without the token has no turns to end.
  assert running.describe(checkpoint, running.Settings()).stop == ()
  with pytest.raises(ValueError, match="`stop` must name tokens of"):
    running.describe(checkpoint, running.Settings(stop=("<|im_end|>",)))
  # It is part of what the results depend on.
  config = json.loads((directory / "config.json").read_text())
  (directory / "config.json").write_text(
      json.dumps(config | {"vocab_size": 258})
  )
  found = running.describe(directory, running.Settings())
  header = running.prepare(scored, found, SETTINGS).header["policy"]
  assert (header["eos_ids"], header["stop"]) == ([256, 257], ["<|im_end|>"])


_ON_A_MESH = """
import json
import pathlib
import sys

import jax

from poise_jax import sharding
from poise_jax.evaluation import problem_sets, results, running
from poise_jax.models import checkpoints, transformer
from poise_jax.tasks import grading_pool, problem_set

tokenizer_of, out = map(pathlib.Path, sys.argv[1:3])
shapes, widest, sets = json.loads(sys.argv[3])
config = transformer.TransformerConfig(
    vocab_size=264,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
)
_, params = transformer.make(config, 0)
params = jax.tree.map(lambda p: 3 * p, params)  # less alike than at the start
checkpoints.save(out / "policy", config, params, eos_token_id=256)
for name in ("tokenizer.json", "tokenizer_config.json"):
  (out / "policy" / name).write_bytes((tokenizer_of / name).read_bytes())
policy = running.describe(out / "policy")
problems = tuple(
    problem_set.Problem(f"p/{i}", f"{i}?" * (widest if i % 3 == 1 else 1), "4")
    for i in range(11)
)
grade = lambda texts, golds, ends: [
    grading_pool.Grade("4" in text, end, None)
    for text, end in zip(texts, ends, strict=True)
]
found = {}
for shape in shapes:
  settings = running.Settings(
      template="none", batch=12, mesh=sharding.MeshConfig(*shape)
  )
  ask = running.make_ask(policy, settings)
  for metric, samples in sets.items():
    scored = problem_sets.ScoredSet(
        metric, metric, samples, float(samples > 1), 0.1, 6, problems, grade
    )
    asked = running.prepare(scored, policy, settings)
    path = out / f"{metric}-{'-'.join(map(str, shape))}.jsonl"
    with results.open_writer(path, asked.header, {}) as writer:
      running.run(asked, ask, writer, settings)
    found.setdefault(metric, []).append(path.read_bytes())
for metric, files in found.items():
  assert len(set(files)) == 1, metric
first = results.read(out / "pass_at_k-1-1-1.jsonl").records
assert len({c.ids_sha256 for r in first.values() for c in r.completions}) > 20
running.check_mesh(policy, running.Settings(mesh=sharding.MeshConfig(data=3)))
try:
  running.check_mesh(policy, running.Settings(mesh=sharding.MeshConfig(data=9)))
except ValueError as error:
  print(error)
"""


def _on_a_mesh(checkpoint, out, *what):
  flags = os.environ.get("XLA_FLAGS", "")
  process = subprocess.run(
      [
          *(sys.executable, "-c", _ON_A_MESH),
          *(str(checkpoint), str(out), json.dumps(what)),
      ],
      env=os.environ
      | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8"},
      capture_output=True,
      text=True,
      timeout=900,
  )
  assert process.returncode == 0, process.stderr
  assert "is 9, the number of devices is 8" in process.stdout


def test_on_a_mesh_every_problem_gets_the_same(checkpoint, tmp_path):
  # Three problems at once over four parts: four rows each, of one sample.
  shapes = [[1, 1, 1], [2, 2, 2]]
  _on_a_mesh(checkpoint, tmp_path, shapes, 1, {"pass_at_k": 4})


@pytest.mark.slow
def test_on_any_mesh_and_for_any_set(checkpoint, tmp_path):
  shapes = [[1, 1, 1], [8, 1, 1], [4, 1, 2], [1, 4, 2]]
  sets = {"pass_at_k": 3, "accuracy": 1}
  _on_a_mesh(checkpoint, tmp_path, shapes, 12, sets)


def test_a_mesh_that_the_policy_does_not_fit(policy):
  mesh = sharding.MeshConfig(tensor=2)
  with pytest.raises(ValueError, match="num_key_value_heads=1 is not"):
    running.make_ask(policy, SETTINGS._replace(mesh=mesh))
