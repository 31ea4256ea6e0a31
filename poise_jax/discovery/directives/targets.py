"""What a clause is about: metrics, and which way its words would move them."""

from typing import NamedTuple

from poise_jax.discovery.directives import clauses, lexicon, scales, words
from poise_jax.discovery.directives import sets as sets_lib

_K = lexicon.Kind
# Quality -> what it is said of -> metric, and +1 if more of one is more of the
# other; `None` if nothing is named.
_LENGTHS = {
    None: "response_length",
    "answer": "response_length",
    "algorithm": "description_length",
    "training": "train_seconds",
}
# `smaller` on its own could be the model, of which no size is measured.
_SIZES = {"answer": "response_length", "algorithm": "description_length"}
_SIMPLE = (None, "algorithm", "training")
# What can be short or long; anything can be small or large.
_LONG = (
    *("response_length", "greedy_length", "description_length"),
    *("train_seconds", "tokens"),
)
_ANY = (None, "answer", "algorithm", "training", "policy", "campaign")


class Target(NamedTuple):
  """A metric that a clause speaks of.

  Attributes:
    metric: its canonical name.
    sign: -1 if the word for it means less of it, as `speed` does of seconds;
      of an adjective too, as `short` does of length.
    fault: whether less is wanted of the word itself.
    move: +1 if the clause is of more of the metric, -1 of less, 0 of neither.
    compares: whether it is of more or less than before, as `shorter` is and
      `short` is not.
  """

  metric: str
  sign: int = 1
  fault: bool = False
  move: int = 0
  compares: bool = True

  @property
  def complement(self) -> bool:
    """Whether the word is of the rest: 20 % errors are 80 % accuracy."""
    return self.sign < 0 and scales.is_share(self.metric)

  @property
  def rise(self) -> bool:
    """Whether the word is of how much a metric rises, as `forgetting` is."""
    return self.fault and self.metric == "heldout_perplexity"


def of(clause: clauses.Clause) -> list[Target]:
  """The metrics of a clause, those that its adjectives stand for among them.

  Raises:
    DirectiveError: if words contradict each other or could mean several.
  """
  nouns = _nouns(clause)
  qualities = clause.all(_K.QUALITY)
  if not nouns:
    return [_of_quality(clause, quality) for quality in qualities]
  moved = _said(clause)
  for quality in qualities:
    ways = {_way(quality, noun.metric, noun.sign) for noun in nouns}
    if len(ways) > 1 or None in ways:
      raise words.DirectiveError(
          "it names a metric and something else at once; say them in two"
          " clauses"
      )
  made = []
  for noun in nouns:
    move, compares = _noun_move(noun, moved)
    for quality in qualities:
      move, compares = _way(quality, noun.metric, noun.sign) or 0, quality.more
    made.append(noun._replace(move=move, compares=compares))
  return made


def _way(quality: lexicon.Quality, metric: str, sign: int) -> int | None:
  """Which way a metric goes by an adjective of its noun, None if neither.

  `shorter response length`, `faster training time`.
  """
  if quality.name == "size" or (quality.name == "length" and metric in _LONG):
    return quality.sign * sign
  if quality.name == "speed" and metric == "train_seconds":
    return -quality.sign
  metrics = {"simplicity": ("description_length", -1),
             "brevity": ("response_length", -1),
             "stability": ("kl", -1), "diversity": ("entropy", 1),
             "validity": ("valid_rate", 1)}  # fmt: skip
  name, way = metrics.get(quality.name, (None, 0))
  if name == metric:
    return way * quality.sign
  if quality.name == "accuracy" and (
      metric == "overall" or metric.startswith(("accuracy", "pass"))
  ):
    return quality.sign
  return None


def _nouns(clause: clauses.Clause) -> list[Target]:
  """Metrics by their names, for each problem set that is named."""
  named: list[lexicon.Noun] = clause.all(_K.METRIC)
  sets = _sets(clause)
  made: list[Target] = []
  for noun in dict.fromkeys(named):
    scored = noun.metric in ("accuracy", "pass_at_k", "pass_at_1", "overall")
    if scored and sets:
      family = "accuracy" if noun.metric == "overall" else noun.metric
      # `score on AIME24` is whatever that set is scored by.
      own = sets_lib.METRIC_OF
      names = [
          f"{own[s] if noun.metric == 'overall' else family}/{s}" for s in sets
      ]
    elif noun.metric.startswith("pass_at"):
      raise words.DirectiveError(
          f"{noun.metric} needs a problem set: name one of"
          f" {', '.join(sets_lib.NAMES)}, as in `pass@k on AIME24`"
      )
    else:
      names = ["overall" if noun.metric == "accuracy" else noun.metric]
    made += [Target(name, noun.sign, noun.fault) for name in names]
  scoring = any(q.name == "accuracy" for q in clause.all(_K.QUALITY))
  if sets and not made and not scoring and clause.has(_K.QUALITY):
    raise words.DirectiveError(
        "only accuracy and pass@k are known for one problem set; leave the set"
        " out"
    )
  if sets and not made and not scoring:
    made = [Target(f"{sets_lib.METRIC_OF[s]}/{s}") for s in sets]
  elif sets and not scoring and not any("/" in t.metric for t in made):
    raise words.DirectiveError(
        "only accuracy and pass@k are known for one problem set, not"
        f" {made[0].metric}; leave the set out"
    )
  return list(dict.fromkeys(made))


def _sets(clause: clauses.Clause) -> list[str]:
  made: list[str] = []
  for names in clause.all(_K.SET):
    if not names:
      raise words.DirectiveError(
          "`AIME` is AIME24 or AIME25; name one, or both"
      )
    made += names
  return list(dict.fromkeys(made))


def _said(clause: clauses.Clause) -> object:
  """The one word of change of a clause, None if there is none."""
  changes = clause.all(_K.CHANGE)
  values: list[object] = list(dict.fromkeys(changes))
  if clause.has(_K.HARM):
    values = [("harm", v) for v in dict.fromkeys(clause.all(_K.HARM))]
  elif clause.has(_K.IMPROVE) and not changes:
    values = ["improve"]
  ways = {_sign(v) if isinstance(v, (int, str)) else v for v in values}
  if len(ways) > 1:
    raise words.DirectiveError(
        "it says more than one thing to do with one metric; say them in two"
        " clauses"
    )
  return values[0] if values else None


def _sign(value: int | str) -> int | str:
  ways: dict[int | str, int] = {
      "more": 1, "high": 1, 1: 1, "less": -1, "low": -1, -1: -1
  }  # fmt: skip
  return ways.get(value, value)


def _noun_move(noun: Target, said: object) -> tuple[int, bool]:
  """Which way a named metric is moved, and whether by comparison."""
  if said is None:
    return 0, True
  if isinstance(said, tuple):
    down = said[1] == "down" and noun.metric == "entropy"
    bad = -noun.sign if noun.fault or noun.sign < 0 else None
    if noun.fault:
      return noun.sign, True
    if bad is not None:
      return -noun.sign, True
    return (-1 if down else scales.worse(noun.metric)), True
  if said == "improve":
    good = scales.better(noun.metric)
    if noun.fault:
      return -noun.sign, True
    if noun.sign < 0:
      return noun.sign, True
    if good is None:
      raise words.DirectiveError(
          f"neither more nor less of {noun.metric} is better as such: say"
          " whether to raise or lower it"
      )
    return good, True
  way = _sign(said)
  assert isinstance(way, int)
  return way * noun.sign, said not in ("high", "low")


def _thing(clause: clauses.Clause, quality: lexicon.Quality) -> str | None:
  """What an adjective is said of: the next object, else the one before."""
  before: list[str] = []
  after: list[str] = []
  side = before
  for word in clause.words:
    if word.kind is _K.QUALITY and word.value == quality:
      side = after
    elif word.kind is _K.OBJECT:
      side.append(word.value)
  named = [thing for thing in (*after, *reversed(before)) if thing != "problem"]
  # `the model's answers` are answers; a model by itself is one.
  own = [thing for thing in named if thing not in ("policy", "campaign")]
  return next(iter(own or named), None)


def _of_quality(clause: clauses.Clause, quality: lexicon.Quality) -> Target:
  """The metric that an adjective stands for, by what it is said of."""
  thing = _thing(clause, quality)
  table: dict[str, tuple[tuple[str | None, ...], str, int]] = {
      "speed": ((None, "algorithm", "training", "campaign"),
                "train_seconds", -1),
      "simplicity": (_SIMPLE, "description_length", -1),
      "stability": ((None, "training", "algorithm", "policy"), "kl", -1),
      "diversity": (_ANY, "entropy", 1),
      "validity": ((None, "answer", "policy"), "valid_rate", 1),
      "closeness": (_ANY, "kl", -1),
      "retention": (_ANY, "heldout_perplexity", -1),
      "accuracy": ((None, "answer", "policy", "training", "algorithm"),
                   "overall", 1),
      "length": (tuple(_LENGTHS), _LENGTHS.get(thing, ""), 1),
      "size": (tuple(_SIZES), _SIZES.get(thing or "", ""), 1),
      "brevity": ((None, "answer", "algorithm", "policy"),
                  "description_length" if thing == "algorithm"
                  else "response_length", -1),
  }  # fmt: skip
  known, metric, way = table[quality.name]
  if thing not in known:
    of = (
        f"the {quality.name} of a {thing}"
        if thing
        else f"{quality.name} as such"
    )
    raise words.DirectiveError(
        f"{of} is not measured; it is of {', '.join(k for k in known if k)}:"
        " say which"
    )
  sets = _sets(clause)
  if sets and quality.name == "accuracy":
    metric = f"accuracy/{sets[0]}"
    if len(sets) > 1:
      raise words.DirectiveError("name one set in a clause, or say `accuracy`")
  sign, more = quality.sign, quality.more
  for said in clause.all(_K.CHANGE):
    sign *= int(_sign(said))
    more = more or said in ("more", "less")
  return Target(metric, way * quality.sign, False, way * sign, more)
