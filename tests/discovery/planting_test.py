"""Planting: the root first, what cannot be verified named."""

import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import findings, verification
from poise_jax.discovery import canaries, clones, planting


def test_root_canaries_clones_and_baselines_in_this_order(
    campaigns, tiny_config
):
  campaign, config = campaigns(), tiny_config(root_seeds=2)
  planted = planting.plant(campaign, config)
  names = ["grpo", *canaries.NAMES, *clones.NAMES, "dapo"]
  assert [candidate.name for candidate in planted] == names
  assert len(planted) == config.planted
  assert planted == campaign.candidates
  root, *_, baseline = planted
  assert (root.role, baseline.role) == ("root", "baseline")
  assert root.nearest[0]["words"].startswith("equals grpo")
  assert root.mechanisms["genome"]
  assert baseline.source == catalog.source("dapo")
  seeds = {c.name: len(campaign.evaluations(c)) for c in planted}
  once = {name: 1 for name in (*canaries.NAMES, clones.EXACT)}
  assert seeds == dict.fromkeys(names, 2) | once
  noted = {c.id for c in planted if c.role in ("canary", "clone")}
  assert campaign.noted() == noted


def test_one_that_is_refused_ends_the_search(
    campaigns, tiny_config, monkeypatch
):
  verdict = verification.Verdict(
      False, (findings.contract("budget", "took too long", "shorten it"),)
  )
  monkeypatch.setattr(verification, "verify", lambda *_, **__: verdict)
  with pytest.raises(ValueError, match="grpo was refused: took too long"):
    planting.plant(campaigns(), tiny_config())
