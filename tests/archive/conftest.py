"""Records made by hand for the tests of the archive."""

import datetime

import pytest

from poise_jax.archive import records

TIME = datetime.datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=datetime.UTC)


class Make:
  """Makes records, each field replaceable."""

  time = TIME

  def campaign(self, **changes):
    values = {
        "id": "c0ffee",
        "name": "quick",
        "config": {"budget": "quick", "seed": 1, "nested": {"b": [1, 2.5]}},
        "created_at": TIME,
    }
    return records.Campaign(**(values | changes))

  def candidate(self, index, **changes):
    source = f"def loss(hparams, state, batch):\n  return {index}\n"
    values = {
        "id": f"c0ffee-{index:03d}",
        "campaign_id": "c0ffee",
        "index": index,
        "name": f"algorithm_{index}",
        "role": "root" if index == 0 else "generated",
        "generation": index,
        "parents": () if index == 0 else ("c0ffee-000",),
        "source": source,
        "source_sha256": records.sha256(source),
        "mechanisms": {"scale": "group_std"},
        "rationale": "why not",
        "accepted": True,
        "findings": ({"check": "finite", "message": "ok"},),
        "artifact": b"\x00\xff" + bytes([index]),
        "artifact_sha256": records.sha256(b"\x00\xff" + bytes([index])),
        "hparams": {"clip": 0.2},
        "created_at": TIME,
    }
    return records.Candidate(**(values | changes))

  def evaluation(self, index, seed=0, **changes):
    values = {
        "id": f"e-{index}-{seed}",
        "candidate_id": f"c0ffee-{index:03d}",
        "key": {"seed": seed, "budget": "quick"},
        "seed": seed,
        "budget": "quick",
        "split": "search",
        "outcome": "scored",
        "reason": "",
        "metrics": {"overall": 0.1 + 0.2},
        "curve": {"reward": [0.0, 1 / 3]},
        "started_at": TIME,
        "finished_at": TIME,
    }
    return records.Evaluation(**(values | changes))

  def reflection(self, index, **changes):
    values = {
        "candidate_id": f"c0ffee-{index:03d}",
        "text": "it moved — a little",
        "data": {"delta": -0.5},
        "created_at": TIME,
    }
    return records.Reflection(**(values | changes))

  def selection(self, generation, **changes):
    values = {
        "campaign_id": "c0ffee",
        "generation": generation,
        "parents": ("c0ffee-000",),
        "terms": {"c0ffee-000": {"score": 1.5}},
        "created_at": TIME,
    }
    return records.Selection(**(values | changes))

  def decision(self, subject, **changes):
    values = {
        "campaign_id": "c0ffee",
        "stage": "confirmation",
        "subject": subject,
        "data": {"effect": 1.5, "held": True},
        "created_at": TIME,
    }
    return records.Decision(**(values | changes))


@pytest.fixture
def make():
  return Make()
