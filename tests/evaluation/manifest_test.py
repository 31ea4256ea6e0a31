"""Manifests follow what they describe, and nothing else."""

import json

from poise_jax.evaluation import manifest, provenance


def _made(stored, limit=None, **changes):
  a = {"AMC": stored.results([0, 1])}
  b = {"AMC": stored.results([1, 1], **changes)}
  return manifest.of_comparison(a, b, limit)


def test_what_is_in_it(stored):
  found = _made(stored, policy__checkpoint="b")
  assert found["a"]["checkpoint"] == "a" * 64
  assert found["b"]["checkpoint"] == "b"
  assert found["sets"]["AMC"]["set"]["sha256"] == "0" * 64
  assert found["code"]["jax"] == "0.10.2"
  identity = {k: v for k, v in found.items() if k != "id"}
  assert found["id"] == provenance.digest(identity)
  assert json.loads(json.dumps(found)) == found


def test_the_command(stored):
  assert _made(stored, 2)["command"] == (
      "python launch/compare.py --a=A --b=B --data=DATA --out=OUT --suite=AMC"
      " --limit=2 --batch=64 --seed=0 --max_tokens=8 --dtype=float32"
      " --template=r1"
  )


def test_the_command_has_the_mesh(stored):
  results = stored.results([0, 1])._replace(machine={"mesh": "4 x 2 x 1"})
  found = manifest.of_comparison({"AMC": results}, {"AMC": results}, None)
  flags = " --batch=64 --mesh.data=4 --mesh.fsdp=2 --mesh.tensor=1 "
  assert flags in found["command"]


def test_it_follows_the_results(stored):
  ids = {
      _made(stored)["id"],
      _made(stored, policy__checkpoint="b")["id"],
      _made(stored, limit=1)["id"],
      _made(stored, code__jax="0.11")["id"],
  }
  assert len(ids) == 4
  assert _made(stored) == _made(stored)
  other = {"AMC": stored.results([0, 1])}
  changed = manifest.of_comparison(other, {"AMC": stored.results([1, 0])}, None)
  assert changed["id"] != _made(stored)["id"]


def test_the_command_has_sets_of_ones_own(stored):
  known = stored.results([0, 1])
  own = [
      stored.results([0, 1], samples=n, name=name, set__weight=0.5)
      for name, n in (("mine", 4), ("plain", 1))
  ]
  sets = {"AMC": known, "mine": own[0], "plain": own[1]}
  command = manifest.of_comparison(sets, sets, None)["command"]
  assert (
      " --suite=AMC --problems=mine.jsonl,plain.jsonl --metric=pass@4,accuracy"
      " --weight=0.5,0.5 "
  ) in command
  command = manifest.of_comparison({"mine": own[0]}, {"mine": own[0]}, None)
  assert "--suite" not in command["command"]


def test_every_machine_is_named(stored):
  cpu, gpu = {"backend": "cpu"}, {"backend": "gpu"}
  first = stored.results([0, 1])._replace(continued=(gpu,))
  second = stored.results([0, 1], name="AIME24")._replace(machine=gpu)
  sets = {"AMC": first, "AIME24": second}
  found = manifest.of_comparison(sets, sets, None)
  assert found["a"]["machines"] == [cpu, gpu]
  assert found["analysis"] == provenance.analysis()
