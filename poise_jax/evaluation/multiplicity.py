"""Several tests at once: Holm's correction."""

from collections.abc import Mapping


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
  """Adjusts p-values so that any false finding among them has the level.

    p̃_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)),  p_(1) <= p_(2) <= ...

  whatever the tests have to do with each other. See "A Simple Sequentially
  Rejective Multiple Test Procedure" by Holm (1979).

  Args:
    p_values: of each test by name.

  Returns:
    Adjusted ones by name, in the order given.

  Raises:
    ValueError: if one does not lie in [0, 1].
  """
  for name, p in p_values.items():
    if not 0 <= p <= 1:
      raise ValueError(f"`p_values` must lie in [0, 1], got {p} for {name!r}")
  adjusted, running = {}, 0.0
  for rank, name in enumerate(sorted(p_values, key=lambda n: p_values[n])):
    running = max(running, min(1.0, (len(p_values) - rank) * p_values[name]))
    adjusted[name] = running
  return {name: adjusted[name] for name in p_values}
