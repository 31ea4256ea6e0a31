"""What a source raises, in words that are equal in every process."""

import jax
import jax.numpy as jnp
import pytest

from poise_jax.candidates import explain, findings


def _blamed(error):
  """The finding for a body that raises `error`."""
  with pytest.raises(findings.RefusedError) as caught:
    with explain.blaming("loss", "`loss` cannot be traced"):
      raise error
  assert caught.value.finding.rule in ("loss", "memory", "recursion")
  return caught.value.finding


def test_names_the_last_line_of_the_source_that_was_reached():
  source = "def helper(x):\n  return x['absent']\n\nhelper({})\n"
  with pytest.raises(findings.RefusedError) as caught:
    with explain.blaming("execute", "the source raises"):
      exec(compile(source, explain.FILE, "exec"), {})
  finding = caught.value.finding
  assert finding.rule == "execute"
  assert finding.message == "the source raises: line 2: KeyError: 'absent'"
  assert "HPARAMS" in finding.hint


def test_an_error_from_elsewhere_has_no_line():
  finding = _blamed(TypeError("bad axis"))
  assert finding.message == "`loss` cannot be traced: TypeError: bad axis"
  assert "shapes are [P, G, T]" in finding.hint


def test_addresses_paths_and_ids_are_left_out():
  text = "<object at 0x7F3a01, id=140> in /usr/lib/python3.11/site.py,\n\t now"
  finding = _blamed(ValueError(text))
  assert finding.message.endswith("<object at 0x, id> in a file, now")


def test_only_the_first_paragraph_counts_and_it_is_cut():
  finding = _blamed(ValueError("first\n\nsecond, with advice"))
  assert finding.message.endswith("ValueError: first")
  assert _blamed(ValueError("y" * 999)).message.count("y") == 300


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (NameError("x"), "in scope"),
        (ImportError("os"), "nothing can be imported"),
        (PermissionError("open"), "may not touch files"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_hint_fits_the_error(error, hint):
  assert hint in _blamed(error).hint


def test_deciding_on_a_traced_value_is_explained():
  with pytest.raises(findings.RefusedError) as caught:
    with explain.blaming("loss", "`loss` cannot be traced"):
      jax.jit(lambda x: x if x > 0 else -x)(jnp.ones(()))
  assert "choose with jnp.where" in caught.value.finding.hint


@pytest.mark.parametrize(
    ("error", "rule", "words"),
    [
        (MemoryError(), "memory", "out of memory"),
        (RecursionError("deep"), "recursion", "recurses without end"),
    ],
    ids=["memory", "recursion"],
)
def test_exhaustion_has_rules_of_its_own(error, rule, words):
  finding = _blamed(error)
  assert finding.rule == rule
  assert finding.message.startswith("`loss` cannot be traced: ")
  assert words in finding.message


def test_a_refusal_passes_and_leaving_python_does_not():
  inner = findings.RefusedError("scalar-loss", "first", "hint")
  with pytest.raises(findings.RefusedError) as caught:
    with explain.blaming("loss", "words"):
      raise inner
  assert caught.value is inner
  assert "SystemExit" in _blamed(SystemExit(3)).message
