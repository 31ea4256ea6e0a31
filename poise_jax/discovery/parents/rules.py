"""Rules for choosing parents, by name; each is a function like any other.

All have the signature of `selection.select` without its policy, log the same
terms whether they use them or not, and give the odds of each draw. So arms of
a control experiment differ in the rule and in nothing else.
"""

from collections.abc import Callable, Mapping
import functools

from poise_jax.discovery.parents import policies, selection

Rule = Callable[..., selection.Selection]

epistemic: Rule = functools.partial(selection.select, policy=policies.epistemic)
greedy: Rule = functools.partial(selection.select, policy=policies.greedy)
uniform: Rule = functools.partial(selection.select, policy=policies.uniform)
best_of_n: Rule = functools.partial(selection.select, policy=policies.best_of_n)

RULES: Mapping[str, Rule] = {
    "epistemic": epistemic,
    "greedy": greedy,
    "uniform": uniform,
    "best_of_n": best_of_n,
}


def named(name: str) -> Rule:
  """Looks up a rule.

  Raises:
    ValueError: listing the rules that there are.
  """
  if name not in RULES:
    raise ValueError(f"`name` must be one of {sorted(RULES)}, got {name!r}")
  return RULES[name]
