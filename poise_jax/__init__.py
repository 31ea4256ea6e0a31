"""Discovers policy-optimisation algorithms for language models.

The packages, low to high; imports only point up this list:

  types       the two types that everything else is written in terms of
  algorithms  what is searched over: advantages, ratios, masks ... and catalogue
  models      the flax policy, Hugging Face checkpoints in and out
  tasks       prompts in, rewards out
  archive     every campaign, candidate, evaluation and reflection, in SQL
  candidates  untrusted loss source in, verified compiled artifact out
  rollout     policy and task to RolloutBatch
  training    RolloutBatch and Algorithm to new params
  evaluation  params and task to scores
  discovery   the search loop
  report      archive to HTML and JSON
"""
