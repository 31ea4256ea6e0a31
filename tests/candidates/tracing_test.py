"""Source to artifact, in this process: what is refused, and how it is said."""

import re

import jax
import jaxlib
import pytest

from poise_jax.candidates import artifact, findings, limits, tracing

_HEAD = 'HPARAMS = {"eps": 0.2}\ndef init(hparams):\n  return {}\n'
_LOSS = "def loss(hparams, state, batch):\n  "

# Body of the loss -> (rule, part of the message).
_BODIES = {
    "return batch.logprobs, state, {}": ("scalar-loss", "shape"),
    "return jnp.sum(batch.rewards > 0), state, {}": ("scalar-loss", "int32"),
    "return batch.logprobs.sum()": ("contract", "three values"),
    "return 'text', state, {}": ("contract", "no array"),
    "return batch.logprobs.sum(), {'a': 1.0}, {}": ("state", "'a' is absent"),
    "return batch.logprobs.sum(), None, {}": ("state", "not a dict"),
    "return batch.logprobs.sum(), state, {'a': batch.rewards}": (
        "metrics",
        "'a' has shape",
    ),
    "return batch.logprobs.sum(), state, {'a b': 1.0}": ("metrics", "name"),
    "return batch.logprobs.sum(), state, 1": ("metrics", "not a dict"),
    "return batch.logprob.sum(), state, {}": ("loss", "line 5: Attribute"),
    "return hparams['missing'], state, {}": ("loss", "line 5: KeyError"),
    "return batch.logprobs + batch.rewards, state, {}": ("loss", "line 5"),
    "return loss(hparams, state, batch)": ("recursion", "without end"),
    "return float(batch.progress), state, {}": ("loss", "Concretization"),
    "return 1.0 if batch.rewards.sum() > 0 else 2.0, state, {}": (
        "loss",
        "Bool",
    ),
    "n = jnp.int32(batch.progress * 9)\n"
    "  return jax.lax.fori_loop(0, n, lambda i, c: c, 1.0), state, {}": (
        "operations",
        "unknown length",
    ),
    "x = batch.logprobs\n  for i in range(2100):\n    x = x * 1.1\n"
    "  return x.sum(), state, {}": ("operations", "more than 2000"),
    "return batch.logprobs.reshape(4, 96).sum(), state, {}": (
        "shapes",
        "number of prompts",
    ),
}
_MODULES = {
    "": ("contract", "`init`"),
    "def init(h):\n  return {}\ndef loss(h, s, b):\n  return 0.0, s, {}": (
        "contract",
        "`HPARAMS`",
    ),
    "HPARAMS = {'a': 'b'}\ninit = loss = dict": ("contract", "`HPARAMS`"),
    "HPARAMS = {'a': 1e999}\ninit = loss = dict": ("contract", "`HPARAMS`"),
    "HPARAMS = {'a': True}\ninit = loss = dict": ("contract", "`HPARAMS`"),
    "HPARAMS = {}\nNEUTRAL = {'a': 1}\ninit = loss = dict": (
        "contract",
        "`NEUTRAL`",
    ),
    "HPARAMS = {}\nDECLARES = 'zero_sum'\ninit = loss = dict": (
        "contract",
        "`DECLARES`",
    ),
    "HPARAMS = {}\nDECLARES = ('Zero sum',)\ninit = loss = dict": (
        "contract",
        "`DECLARES`",
    ),
    "HPARAMS = {}\ndef init(h):\n  return 1\nloss = dict": ("state", "dict"),
    "x = str(sum)": ("execute", "text of a builtin_function"),
    "def f(): pass\nx = f'{f}'": ("execute", "line 2: TypeError: the text"),
    "HPARAMS = {}\ndef init(h):\n  return {'a': jnp.zeros(9999)}\n"
    "loss = dict": ("state", "4096"),
    "HPARAMS = {}\ndef init(h):\n  return {'a': [{}]}\nloss = dict": (
        "contract",
        "no array",
    ),
    "x = 1 / 0": ("execute", "line 1: ZeroDivisionError"),
    "import os": ("execute", "ImportError"),
    "x = open('/etc/passwd')": ("execute", "NameError"),
}


def _trace(source, **arguments):
  return tracing.trace(source, limits.Limits(), group_size=8, **arguments)


@pytest.mark.parametrize("body", _BODIES, ids=range(len(_BODIES)))
def test_refuses_a_loss_that_breaks_the_contract(body):
  rule, words = _BODIES[body]
  with pytest.raises(findings.RefusedError) as caught:
    _trace(_HEAD + _LOSS + body)
  finding = caught.value.finding
  assert (finding.rule, finding.level) == (rule, "contract"), finding
  assert words in finding.message, finding
  assert finding.hint
  assert not re.search(r"0x[0-9a-f]+|/[a-z]+/", finding.message), finding


@pytest.mark.parametrize("source", _MODULES, ids=range(len(_MODULES)))
def test_refuses_a_module_that_breaks_the_contract(source):
  rule, words = _MODULES[source]
  with pytest.raises(findings.RefusedError) as caught:
    _trace(source)
  finding = caught.value.finding
  assert finding.rule == rule and words in finding.message, finding


def test_refuses_an_artifact_that_is_too_large():
  body = "return batch.logprobs.mean(), state, {}"
  bounds = limits.Limits(artifact_bytes=10_000)
  with pytest.raises(findings.RefusedError, match="artifact-size.*10000"):
    tracing.trace(_HEAD + _LOSS + body, bounds, group_size=8)


def test_sizes_stay_free_if_the_loss_allows():
  body = "return jnp.mean(jnp.std(batch.logprobs, axis=1)), state, {}"
  parts = artifact.read(_trace(_HEAD + _LOSS + body))
  assert parts.metadata.shapes == {"P": "P", "G": "G", "T": "T", "K": "K"}


def test_group_size_is_fixed_if_the_loss_needs_it():
  body = (
      "return sum(batch.logprobs[:, i].sum() for i in"
      " range(batch.rewards.shape[1])), state, {}"
  )
  parts = artifact.read(_trace(_HEAD + _LOSS + body))
  assert parts.metadata.shapes == {"P": "P", "G": 8, "T": "T", "K": 2}


def test_all_sizes_are_fixed_only_on_request():
  body = "return batch.logprobs.reshape(4, 96).sum(), state, {}"
  parts = artifact.read(_trace(_HEAD + _LOSS + body, fallback_shape=(4, 12)))
  assert parts.metadata.shapes == {"P": 4, "G": 8, "T": 12, "K": 2}


def test_header_tells_constants_state_and_metrics():
  source = """
HPARAMS = {"b": 1, "a": 0.5}
NEUTRAL = {"b": 0.0}
DECLARES = ["zero_sum", "on_policy", "zero_sum"]
def init(hparams):
  return {"mean": hparams["a"], "count": 0, "levels": jnp.zeros((2, 3))}
def loss(hparams, state, batch):
  state = {**state, "count": state["count"] + 1}
  return batch.logprobs.sum() * hparams["b"], state, {"z": 1, "y/x": 2.0}
"""
  metadata = artifact.read(_trace(source)).metadata
  assert metadata.hparams == {"a": 0.5, "b": 1.0}
  assert metadata.neutral == {"b": 0.0}
  assert metadata.declares == ["zero_sum", "on_policy"]
  assert metadata.jax_version == jax.__version__
  assert metadata.jaxlib_version == jaxlib.__version__
  assert metadata.metrics == ["y/x", "z"]
  assert metadata.state == {
      "count": ([], "int32"),
      "levels": ([2, 3], "float32"),
      "mean": ([], "float32"),
  }


def test_text_of_names_and_numbers_works_as_ever():
  source = """
HPARAMS = {f"a{1}_{str(2)}": 1.0}
def init(hparams):
  return {}
def loss(hparams, state, batch):
  metrics = {f"m{i}{f'_{i}'}": 1.0 for i in range(2)}
  return batch.logprobs.sum() * hparams["a1_2"], state, metrics
"""
  metadata = artifact.read(_trace(source)).metadata
  assert metadata.hparams == {"a1_2": 1.0}
  assert metadata.metrics == ["m0_0", "m1_1"]


def test_transcript_lists_the_operations():
  body = "return jnp.sum(jax.nn.relu(batch.logprobs)), state, {}"
  transcripts = [
      tracing.transcribe(_HEAD + _LOSS + body, limits.Limits(), group_size=8)
      for _ in range(2)
  ]
  assert transcripts[0] == transcripts[1]
  text = transcripts[0].jaxpr
  assert "reduce_sum" in text and "f32[P,G,T]" in text
  assert not re.search(r"0x[0-9a-f]+|/[a-z]+/|\.py", text)
