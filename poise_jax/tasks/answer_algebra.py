r"""Compares two formulas by computer algebra; may take for ever.

Formulas are read by math-verify's LaTeX parser. Closed ones are compared as
numbers, those with variables at a few fixed points, which decides almost all
and needs no simplification; relations, sets and what has no value go to
math-verify's own comparison. Only processes that can be killed may call this.
"""

import fractions
import logging
import re

import math_verify
from math_verify import grader
import sympy

from poise_jax.tasks import answer_notation

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

_DIGITS = 30
_POINTS = ("0.731", "1.177", "0.379", "1.618", "0.913", "1.401", "0.577")
_DECIMAL = re.compile(r"\d\.\d|\.\d")
_SCIENTIFIC = re.compile(r"10\s*\^\s*\{?\s*-?\d")
# Units are dropped before, with more care: 2t is not 2.
_CONFIG = math_verify.LatexExtractionConfig(
    boxed_match_priority=-1,
    normalization_config=math_verify.LatexNormalizationConfig(
        basic_latex=True,
        units=False,
        malformed_operators=True,
        nits=False,
        boxed="none",
        equations=False,
    ),
)


def parse(text: str) -> list[object]:
  """Reads one formula; empty if it cannot be read."""
  return math_verify.parse(
      f"${text}$", [_CONFIG], fallback_mode="no_fallback", parsing_timeout=None
  )


def _scalar(parsed: object) -> bool:
  """Whether it stands for a number, perhaps of its variables."""
  return (
      isinstance(parsed, sympy.Expr)
      and not parsed.has(sympy.MatrixBase)
      and not parsed.atoms(sympy.core.function.AppliedUndef)
  )


def _value(
    parsed: sympy.Expr, point: dict[sympy.Symbol, sympy.Expr]
) -> sympy.Expr | None:
  """The value at a point; None if there is none."""
  value = sympy.N(parsed.subs(point).doit(), _DIGITS)
  if not value.is_number or value.has(sympy.nan, sympy.zoo):
    return None
  if value.has(sympy.oo, -sympy.oo):
    return value if value in (sympy.oo, -sympy.oo) else None
  real, imaginary = value.as_real_imag()
  return value if real.is_Float or imaginary.is_Float else None


def _equal(gold: sympy.Expr, answer: sympy.Expr, rounding: str) -> bool:
  """Whether two values are equal but for rounding."""
  if gold == answer:
    return True
  if gold.is_infinite or answer.is_infinite:
    return False
  size = max(abs(gold), abs(answer))
  # Exact zeros evaluate to some 1e-125.
  noise = sympy.Float("1e-100")
  return bool(abs(gold - answer) <= size * sympy.Float(rounding) + noise)


def _points(
    symbols: list[sympy.Symbol],
) -> list[dict[sympy.Symbol, sympy.Expr]]:
  """Fixed points that have no relation to each other."""
  count = len(_POINTS)
  return [
      {
          symbol: sympy.Float(_POINTS[(i * 3 + k) % count], _DIGITS)
          + (i // count)
          for i, symbol in enumerate(symbols)
      }
      for k in range(4)
  ]


def _aligned(
    gold: sympy.Expr, answer: sympy.Expr
) -> tuple[sympy.Expr, sympy.Expr, set[str]]:
  """The two with equal variables for equal names, and those names."""
  names = {s.name for s in gold.free_symbols | answer.free_symbols}
  # Assumptions may differ between two formulas, names may not.
  plain = {name: sympy.Symbol(name) for name in names} | {"i": sympy.I}
  rename = lambda e: e.xreplace({s: plain[s.name] for s in e.free_symbols})
  return rename(gold), rename(answer), names - {"i"}


def _fraction(value: sympy.Expr) -> fractions.Fraction:
  """A real value, exactly."""
  exact = sympy.Rational(value)
  return fractions.Fraction(int(exact.p), int(exact.q))


def _numerically(
    gold: sympy.Expr, answer: sympy.Expr, decimal: bool, scientific: bool
) -> bool | None:
  """Compares values; None if they cannot be had."""
  gold, answer, names = _aligned(gold, answer)
  # Variables are given to 30 digits, of which differences lose some.
  rounding = "1e-12" if names or decimal else "1e-25"
  if not names and not decimal:
    exact = gold.doit(), answer.doit()
    if exact[0].is_Rational and exact[1].is_Rational:
      return bool(exact[0] == exact[1])
  agree = 0
  for point in _points([sympy.Symbol(name) for name in sorted(names)]):
    values = _value(gold, point), _value(answer, point)
    if values[0] is None or values[1] is None:
      continue
    agree += 1
    if _equal(*values, rounding):
      if not names:
        return True
      continue
    if decimal and not names:
      return all(v.is_real and v.is_finite for v in values) and (
          answer_notation.close(*map(_fraction, values), scientific)
      )
    near = _equal(*values, "1e-6")  # of six places, as decimals have
    if decimal and near:
      continue
    return False
  return True if agree >= (2 if names else 1) else None


def same(gold: str, answer: str) -> bool | None:
  """Whether two formulas in LaTeX are equal.

  Returns:
    None if either cannot be read.
  """
  golds, answers = parse(gold), parse(answer)
  if not golds or not answers:
    return None
  decimal = bool(_DECIMAL.search(gold + " " + answer))
  scientific = decimal and bool(_SCIENTIFIC.search(gold + " " + answer))
  g, a = golds[0], answers[0]
  if _scalar(g) and _scalar(a):
    try:
      decision = _numerically(g, a, decimal, scientific)
    except (ArithmeticError, TypeError, ValueError, AttributeError):
      decision = None
    if decision is not None:
      return decision
  return grader.verify(
      golds,
      answers,
      strict=True,
      allow_set_relation_comp=True,
      timeout_seconds=None,
  )
