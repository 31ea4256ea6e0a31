"""What a manifest says against what is here, changed in one thing each."""

import json

import pytest

from poise_jax.evaluation import manifest, manifest_check, provenance
from poise_jax.tasks import problem_set


@pytest.fixture
def both(stored):
  side = lambda name: {
      "AMC": stored.results([0, 1], policy__checkpoint=name, policy__stop=[])
  }
  return side("a"), side("b")


@pytest.fixture
def expected(both):
  found = manifest.of_comparison(*both, None)
  return json.loads(json.dumps(found))


def test_nothing_differs(expected, both, tmp_path):
  path = tmp_path / "manifest.json"
  path.write_text(json.dumps(expected))
  read = manifest_check.read(path)
  headers = {"AMC": both[0]["AMC"].header}
  found = [
      manifest_check.itself(read),
      manifest_check.policy(read, "a", headers),
      manifest_check.stored(read, "b", both[1]),
  ]
  assert not any(finding.differences for finding in found)
  assert manifest_check.lines(found) == [
      "same, the manifest",
      "same, checkpoint A",
      "same, results of B",
  ]


def test_a_manifest_that_was_changed(expected):
  changed = expected | {"limit": 1}
  (text,) = manifest_check.itself(changed).differences
  assert text.startswith(f'id is "{expected["id"]}", "')


def test_another_checkpoint(expected, both):
  headers = {"AMC": both[1]["AMC"].header}
  finding = manifest_check.policy(expected, "a", headers)
  assert finding.differences == ('AMC.policy.checkpoint is "a", "b"',)
  assert manifest_check.lines([finding]) == [
      'differs, checkpoint A (there, here): AMC.policy.checkpoint is "a", "b"'
  ]


def test_another_completion(expected, both, stored):
  record = stored.record(0, 0, texts=["", "other"])
  result = both[0]["AMC"]
  changed = result._replace(records=result.records | {record.id: record})
  (text,) = manifest_check.stored(expected, "a", {"AMC": changed}).differences
  assert text.startswith("results.AMC.records_sha256 is ")


def test_problems(expected):
  # The header was made by hand: its problems have no such hash.
  problems = [problem_set.Problem(f"p/{i}", f"{i}?", "1") for i in range(2)]
  expected["sets"]["AMC"]["set"]["sha256"] = provenance.digest(
      [["p/0", "0?", "1"], ["p/1", "1?", "1"]]
  )
  assert manifest_check.problems(expected, "AMC", problems).differences == ()
  found = manifest_check.problems(expected, "AMC", problems[:1])
  assert found.part == "problems of AMC"
  assert found.differences[0] == "problems is 2, 1"
  assert found.differences[1].startswith("sha256 is ")


def test_code(expected):
  there = manifest_check.code(expected).differences
  assert any(text.startswith("code.poise_jax is ") for text in there)
  expected["code"] = provenance.code()
  assert manifest_check.code(expected).differences == ()
  expected["analysis"]["scipy"] = "0.1"
  (text,) = manifest_check.code(expected).differences
  assert text.startswith('analysis.scipy is "0.1", "')


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"id": 1}'])
def test_other_files(tmp_path, text):
  with pytest.raises(FileNotFoundError, match=r"manifest.json that launch"):
    manifest_check.read(tmp_path / "manifest.json")
  (tmp_path / "x.json").write_text(text)
  with pytest.raises(ValueError, match="x.json: not a manifest"):
    manifest_check.read(tmp_path / "x.json")
