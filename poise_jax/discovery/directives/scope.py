"""What a clause says a metric is of: `accuracy of`, `length of`.

Refuses what would be dropped: `length of wrong answers` is neither length nor
accuracy, `accuracy on long questions` is of questions that nobody has sorted,
and a condition is no aim.
"""

from collections.abc import Mapping, Sequence

from poise_jax.discovery.directives import clauses, lexicon, words

_K = lexicon.Kind
_SCORED = ("overall", "accuracy", "pass_at_k", "pass_at_1")
_OF = ("of", "in", "on", "for", "per", "from", "to", "across", "at")
_EXTREMES = (
    "maximum",
    "maximal",
    "minimum",
    "minimal",
    "worst",
    "most",
    "least",
)
_EACH = ("each", "every", "any", "some", "any of")
# What a metric may be said to be of; all where it is left out.
_OWNERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        _SCORED, ("answer", "algorithm", "policy", "problem", "campaign")
    ),
    "response_length": ("answer", "problem"),
    "greedy_length": ("answer",),
    "truncated_rate": ("answer", "policy"),
    "valid_rate": ("answer", "policy"),
    "train_seconds": ("training", "algorithm"),
    "heldout_perplexity": ("policy", "problem"),
    "description_length": ("algorithm",),
    "tokens": ("training",),
    "flops": ("algorithm",),
}


def check(clause: clauses.Clause) -> None:
  """Refuses a metric of something that it is not recorded of.

  Raises:
    DirectiveError: naming both, and what there is.
  """
  for message in clause.all(_K.UNMEASURED):
    raise words.DirectiveError(message)
  _check_extremes(clause)
  pairs = _neighbours(clause.words)
  for i, (first, between, second) in enumerate(pairs):
    _check_metrics(first, between, second)
    if second.kind is _K.OBJECT:
      after = pairs[i + 1] if i + 1 < len(pairs) else None
      names = after is not None and not after[1] and after[2].kind is _K.METRIC
      if not names:  # `raise benchmark accuracy` raises accuracy
        _check_object(clause, first, between, second)


def _check_extremes(clause: clauses.Clause) -> None:
  """Refuses limits of the longest or the worst: means are recorded."""
  if not clause.has(_K.NUMBER):
    return
  for word in clause.words:
    text = word.text.lower()
    extreme = text in _EXTREMES or text.endswith("est")
    if extreme and word.kind in (_K.CHANGE, _K.QUALITY, _K.HARM):
      raise words.DirectiveError(
          f"{text!r} is not recorded, only means over all answers are; leave it"
          " out if the mean is meant"
      )


def _neighbours(
    said: Sequence[lexicon.Word],
) -> list[tuple[lexicon.Word, list[str], lexicon.Word]]:
  """Words next to each other, with the fillers between them.

  What was borrowed from another clause is next to nothing.
  """
  made = []
  before: lexicon.Word | None = None
  between: list[str] = []
  for word in said:
    if word.kind is _K.FILLER or word.kind is _K.TO:
      between.append(word.text.lower())
      continue
    if before is not None and before.end <= word.start:
      made.append((before, between, word))
    before, between = word, []
  return made


def _check_metrics(
    first: lexicon.Word, between: Sequence[str], second: lexicon.Word
) -> None:
  """Refuses `length of wrong answers`, `model length`, `accuracy in training`."""
  per = second.text.lower().startswith("per ")
  joined = per or any(word in _OF for word in between)
  if first.kind is _K.METRIC and joined:
    if second.kind is _K.OBJECT:
      _check_owner(first, second.value)
    elif second.kind is _K.METRIC and not _alike(first, second):
      raise words.DirectiveError(
          f"{first.text!r} is not recorded of {second.text!r} alone; say them"
          " in two clauses if both are meant"
      )
  if first.kind is _K.OBJECT and second.kind is _K.METRIC and not between:
    _check_owner(second, first.value)


def _alike(first: lexicon.Word, second: lexicon.Word) -> bool:
  """Whether two names are of one metric: `performance in accuracy`."""
  names = (first.value.metric, second.value.metric)
  return names[0] == names[1] or all(name in _SCORED for name in names)


def _check_object(
    clause: clauses.Clause,
    first: lexicon.Word,
    between: Sequence[str],
    second: lexicon.Word,
) -> None:
  """Refuses problems of a kind, limits of each set, and counts."""
  counted = first.kind is _K.NUMBER and first.value.unit is None
  if counted and not between:
    raise words.DirectiveError(
        f"how many {second.text} is not recorded; say which share, in %"
    )
  if second.value != "problem":
    return
  scored = any(n.metric in _SCORED for n in clause.all(_K.METRIC))
  kind = not between and (
      first.kind in (_K.QUALITY, _K.WEIGHT)
      or (first.kind is _K.CHANGE and isinstance(first.value, str))
  )
  each = [word for word in between[-2:] if word in _EACH]
  if kind or (each and scored):
    said = first.text if kind else each[0]
    raise words.DirectiveError(
        f"scores are not recorded of {said!r} {second.text}; name problem sets"
    )


def _check_owner(metric: lexicon.Word, owner: str) -> None:
  """Refuses a metric of what it is not recorded of."""
  name = metric.value.metric
  owners = _OWNERS.get(name)
  if owners is None or owner in owners:
    return
  if name == "tokens" and owner == "answer":
    hint = "say `response_length` for those of an answer"
  elif name == "flops":
    hint = "it is of the loss; say `tokens` for what is sampled in training"
  else:
    hint = f"it is of {', '.join(owners)}"
  raise words.DirectiveError(
      f"{metric.text!r} ({name}) is not recorded of {owner}; {hint}"
  )
