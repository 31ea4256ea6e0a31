"""The program as it is run: a policy with itself, with another, twice."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from poise_jax.evaluation import results, running
from poise_jax.models import checkpoints
from poise_jax.tasks import arithmetic

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "compare.py"
SETTINGS = ("--suite=sums2,mixed3", "--limit=8", "--batch=8")
FILES = ("comparison.md", "comparison.html", "comparison.json", "manifest.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("launch")


@pytest.fixture(scope="module")
def compare(folder):
  """Runs the program; programs compile once for all tests."""
  environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }

  def compare(a, b, out, *arguments, status=0):
    process = subprocess.run(
        [
            *(sys.executable, str(SCRIPT)),
            *(f"--a={a}", f"--b={b}", f"--out={out}", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert process.returncode == status, process.stderr
    compare.stdout = process.stdout
    return process.stdout if status == 0 else process.stderr

  return compare


@pytest.fixture(scope="module")
def noisy(folder):
  """A perturbed copy of the shipped policy."""
  base = running.directory_of("embedded")
  found = checkpoints.load(base)
  noise = lambda p: p + 0.05 * jax.random.normal(jax.random.key(1), p.shape)
  params = jax.tree.map(noise, found.params)
  checkpoints.save(folder / "noisy", found.config, params, source=base)
  return folder / "noisy"


@pytest.fixture(scope="module")
def pair(compare, noisy, folder):
  """A comparison of two checkpoints: its directory and what was printed."""
  out = folder / "pair"
  return out, compare("embedded", noisy, out, *SETTINGS)


def _bytes(directory):
  return {name: (directory / name).read_bytes() for name in FILES}


def test_two_policies(pair):
  out, stdout = pair
  found = json.loads((out / "comparison.json").read_text())
  assert found["verdict"] == stdout.splitlines()
  assert "on sums2" in stdout and "no result to cite" in stdout
  sums2 = found["sets"]["sums2"]
  assert sums2["b"] - sums2["a"] == pytest.approx(
      100 * (sums2["gained"] - sums2["lost"]) / 8
  )
  assert sums2["same_completions"] < 8
  manifest = json.loads((out / "manifest.json").read_text())
  assert manifest["a"]["checkpoint"] != manifest["b"]["checkpoint"]
  assert "--suite=mixed3,sums2 --limit=8" in manifest["command"]
  page = (out / "comparison.html").read_text()
  assert manifest["id"] in page and page.endswith("</html>\n")
  assert manifest["id"] in (out / "comparison.md").read_text()


@pytest.mark.slow
def test_elsewhere_it_gives_the_same_bytes(pair, compare, noisy, folder):
  out = folder / "elsewhere"
  assert compare("embedded", noisy, out, *SETTINGS) == pair[1]
  assert _bytes(out) == _bytes(pair[0])


def test_against_its_manifest(pair, compare, noisy, folder):
  check = f"--check={pair[0] / 'manifest.json'}"
  stdout = compare("embedded", noisy, folder / "x", check)
  assert stdout.splitlines() == [
      "same, the manifest",
      "same, code and versions",
      "same, problems of mixed3",
      "same, problems of sums2",
      "same, checkpoint A",
      "same, checkpoint B",
  ]
  assert not (folder / "x").exists()


def test_what_cannot_be_read_does_not_end_a_check(pair, compare, folder):
  check = f"--check={pair[0] / 'manifest.json'}"
  broken = folder / "broken"
  shutil.copytree(pair[0] / "b", broken)
  (broken / "sums2.jsonl").write_text("{")
  out = folder / "x"
  assert compare(pair[0] / "a", broken, out, check, status=1) == ""
  lines = compare.stdout.splitlines()
  assert "same, results of A" in lines
  assert any("results of B" in x and "cannot be read" in x for x in lines)


@pytest.mark.slow
def test_against_the_manifest_of_others(pair, compare, noisy, folder):
  check = f"--check={pair[0] / 'manifest.json'}"
  out = folder / "x"
  # Stored results of B are those of then; the checkpoint of A is another one.
  assert compare(noisy, pair[0] / "b", out, check, status=1) == ""
  lines = compare.stdout.splitlines()
  assert "same, results of B" in lines
  assert any(
      line.startswith(
          "differs, checkpoint A (there, here): mixed3.policy.check"
      )
      for line in lines
  )
  compare("embedded", "", out, check)
  assert compare.stdout.splitlines()[-1] == "not checked, B: give --b=DIR"
  assert "there must be a manifest at" in compare(
      "embedded", noisy, out, f"--check={folder / 'none.json'}", status=2
  )


def test_from_stored_results_it_gives_the_same_bytes(pair, compare, folder):
  a, b = pair[0] / "a", pair[0] / "b"
  out = folder / "stored"
  assert compare(a, b, out, *SETTINGS) == pair[1]
  assert _bytes(out) == _bytes(pair[0])


def test_a_limit_takes_the_first_problems(pair, compare, folder):
  a, b = pair[0] / "a", pair[0] / "b"
  stdout = compare(a, b, folder / "part", "--suite=sums2", "--limit=3")
  found = json.loads((folder / "part" / "comparison.json").read_text())
  assert found["sets"]["sums2"]["problems"] == 3
  assert "no result to cite" in stdout
  problems = arithmetic.problems_of(
      next(s for s in arithmetic.SUITE if s.name == "sums2"),
      arithmetic.Split.CONFIRM,
      3,
  )
  first = {p.prompt.rstrip("=_") for p in problems}
  stored = results.read(a / "sums2.jsonl")
  assert first < stored.records.keys()
  hits = sum(stored.records[i].completions[0].correct for i in first)
  assert found["sets"]["sums2"]["a"] == pytest.approx(100 * hits / 3)


def test_without_the_order_of_problems_a_limit_is_refused(
    pair, compare, folder
):
  sides = folder / "changed_a", folder / "changed_b"
  for side, source in zip(sides, "ab", strict=True):
    side.mkdir()
    found = results.read(pair[0] / source / "sums2.jsonl")
    header = {**found.header}
    header["set"] = header["set"] | {"sha256": "0" * 64}
    path = side / "sums2.jsonl"
    with results.open_writer(path, header, found.machine) as writer:
      writer.append(list(found.records.values()))
  stderr = compare(*sides, folder / "x", "--limit=3", status=2)
  assert "--limit=3 needs the order of the problems of sums2" in stderr
  assert "others than those that were asked" in stderr
  assert not (folder / "x").exists()


@pytest.mark.slow
def test_a_policy_with_itself(pair, compare, folder):
  stdout = compare("embedded", pair[0] / "a", folder / "self", *SETTINGS)
  assert stdout == (
      "A and B are the same checkpoint, and all 16 completions are equal token"
      " by token: there is no difference.\n"
  )
  path = folder / "self" / "comparison.json"
  found = json.loads(path.read_text())["sets"]
  for name in ("sums2", "mixed3"):
    assert found[name]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert found[name]["p_value"] == 1


@pytest.mark.slow
def test_what_cannot_be_compared(pair, compare, noisy, folder):
  stderr = compare(
      noisy, pair[0] / "a", folder / "x", *SETTINGS, "--seed=1", status=2
  )
  # Before anything is asked.
  assert "--b has results of mixed3 with other settings" in stderr
  assert "sampling.seed is 0, 1" in stderr and stderr.count("\n") == 1
  assert not (folder / "x").exists()
  stderr = compare(folder, noisy, folder / "x", *SETTINGS, status=2)
  assert "it is neither" in stderr
