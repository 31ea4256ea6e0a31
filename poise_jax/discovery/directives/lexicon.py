"""The words that a directive may be made of, and what each of them says.

Phrases are lists of lower-case words; the longest one that fits is taken. Every
word of a directive must be in here, if only as filler: what is not known can't
be dropped, because it may be what mattered.
"""

from collections.abc import Iterator
import enum
from typing import Any, NamedTuple

from poise_jax.discovery.directives import sets


class Kind(enum.Enum):
  """What a word does in a clause."""

  METRIC = "the name of something measured"
  SET = "a problem set"
  OBJECT = "what is to be short, fast or simple"
  QUALITY = "a property that something measured stands for"
  CHANGE = "more or less of something"
  IMPROVE = "better"
  HARM = "worse"
  HOLD = "keep"
  STEADY = "the same"
  COLLAPSE = "much less"
  EXPLODE = "much more"
  COMPARE = "a limit above or below"
  WITHIN = "near something, or no more"
  NUMBER = "a number"
  TIMES = "a multiple"
  BY = "an amount of change"
  TO = "where a change ends"
  THAN = "what is compared with"
  ROOT = "where a search starts from"
  NOT = "a negation"
  USE = "have as a part"
  MECHANISM = "a part of an algorithm"
  WEIGHT = "how much it counts"
  WEIGH = "a number that follows is how much it counts"
  IMPORTANT = "counts more than what follows"
  STRICT = "without any margin"
  TOO = "more than wanted"
  MAY = "permission"
  FREE = "does not count"
  BREAK = "begins another clause"
  AND = "joins"
  OR = "joins, under one negation"
  STOP = "ends a sentence"
  IF = "begins a condition"
  UNMEASURED = "can't be measured or expressed"
  FILLER = "says nothing"


class Lexeme(NamedTuple):
  """One phrase of the lexicon: its kind, and what it says in that kind."""

  kind: Kind
  value: Any = None


class Noun(NamedTuple):
  """A metric by name; `sign` -1 if more of the word is less of the metric.

  A noun may be a fault, of which less is wanted, such as verbosity.
  """

  metric: str
  sign: int = 1
  fault: bool = False


class Quality(NamedTuple):
  """An adjective: short is (`size`, -1). `more` if it compares: shorter."""

  name: str
  sign: int
  more: bool = False


class Unit(NamedTuple):
  """A unit and how many of its dimension's own it is."""

  dimension: str
  factor: float = 1.0


class Quantity(NamedTuple):
  """A number in the own size of its unit, None if it came without one."""

  number: float
  unit: Unit | None


class Word(NamedTuple):
  """A phrase of a directive.

  Attributes:
    kind: what it does.
    value: what it says; see `lexicon`.
    text: the words as they were written.
    start: where they begin in the normalised text.
    end: where they end there.
  """

  kind: Kind
  value: Any
  text: str
  start: int
  end: int


_K = Kind
_NOUNS = {
    Noun("accuracy"): (
        "accuracy|acc|accuracies|correctness|solve rate|success rate|pass rate"
        "|correct answers|right answers|correct solutions|correct responses"
        "|solved problems|problems solved"
    ),
    Noun("accuracy", -1, True): (
        "error rate|wrong answers|incorrect answers|mistakes|errors"
        "|accuracy loss rate|wrong solutions"
    ),
    Noun("overall"): (
        "overall|overall score|overall accuracy|overall performance|perf|score"
        "|scores|performance|average score|mean score|benchmark score"
        "|benchmark scores|benchmark performance|results|test scores"
    ),
    Noun("pass_at_k"): "pass @ k|pass at k|pass k",
    Noun("pass_at_1"): "pass @ 1|pass at 1",
    Noun("response_length"): (
        "length|len|resp length|lengths|response length|response lengths|responses length"
        "|answer length|answers length|answer lengths|length of answers"
        "|length of the answers|length of responses|length of the responses"
        "|length of completions|length of the completions|completion length"
        "|output length|length of outputs|length of the outputs|reply length"
        "|generation length|solution length|reasoning length|token count"
        "|tokens per answer|tokens per response|tokens per completion"
        "|tokens per output|tokens per problem|tokens per reply"
        "|tokens an answer|tokens each answer|tokens per solution"
        "|number of tokens per answer|chain of thought length"
    ),
    Noun("response_length", 1, True): "verbosity|wordiness|waffle",
    Noun("response_length", -1): "brevity|conciseness|terseness|concision",
    Noun("greedy_length"): "greedy length|greedy response length",
    Noun("train_seconds"): (
        "train seconds|training time|time to train|training seconds|run time"
        "|runtime|wall clock|wall clock time|wall time|training duration"
        "|training times|time|time of training|compute time"
    ),
    Noun("train_seconds", -1): (
        "speed|training speed|speed of training|throughput"
        "|training throughput"
    ),
    Noun("heldout_perplexity"): (
        "heldout perplexity|held out perplexity|perplexity|perplexities|ppl"
        "|perplexity on held out text|perplexity on held out data|perplexity of"
        " held out text|validation perplexity|test perplexity"
    ),
    Noun("heldout_perplexity", 1, True): "forgetting|catastrophic forgetting",
    Noun("kl"): (
        "kl|kl divergence|kl distance|kld|divergence|policy divergence"
        "|kl to the reference|kl to the reference policy|kl to reference"
        "|kl from the reference|kl from the reference policy|kl to the base"
        "|kl divergence from the reference|kl divergence to the reference"
        "|kl divergence from the reference policy|distance to the reference"
        "|kl divergence to the reference policy|kl from the base model"
        "|distance to the reference policy|distance from the reference"
        "|distance from the reference policy|divergence from the reference"
        "|divergence from the reference policy|divergence from the base model"
    ),
    Noun("kl", 1, True): (
        "instability|instabilities|drift|policy drift"
        "|drift from the reference|drift from the base model"
    ),
    Noun("kl", -1): "stability|training stability|stability of training",
    Noun("entropy"): (
        "entropy|policy entropy|exploration|diversity|randomness"
        "|token entropy|answer diversity|entropy of the policy"
    ),
    Noun("entropy", -1): "determinism",
    Noun("valid_rate"): (
        "valid rate|validity|format validity|valid answers|valid responses"
        "|parsable answers|parseable answers|well formed answers"
        "|rate of valid answers|share of valid answers|format compliance"
        "|valid outputs|format accuracy|formatting|format correctness"
        "|rate of parsable answers|share of parsable answers"
        "|fraction of valid answers|valid answer rate|valid completions"
    ),
    Noun("valid_rate", -1, True): (
        "invalid answers|unparsable answers|unparseable answers|format errors"
        "|malformed answers|invalid responses|invalid rate|invalid outputs"
        "|formatting errors|malformed responses|unparsable responses"
    ),
    Noun("truncated_rate", 1, True): (
        "truncated rate|truncation|truncations|truncation rate"
        "|truncated answers|truncated responses|cut off answers"
        "|truncated completions"
    ),
    Noun("description_length"): (
        "description length|code length|source length|length of the code"
        "|length of the loss|length of the description|size of the loss"
        "|length of the algorithm|length of the formula|program length|bits|number of bits"
        "|length of the source|code size|size of the code"
        "|loss length|algorithm length|lines of code"
    ),
    Noun("description_length", 1, True): (
        "complexity|algorithm complexity|loss complexity|code complexity"
        "|complexity of the loss|complexity of the algorithm|complications"
        "|algorithmic complexity|complexity of the code"
    ),
    Noun("description_length", -1): (
        "simplicity|simplicity of the loss|elegance|simplicity of the code"
        "|simplicity of the algorithm|minimalism"
    ),
    Noun("tokens"): (
        "tokens|total tokens|training tokens|tokens in total|token usage"
        "|tokens generated|generated tokens|number of tokens|token budget"
        "|tokens of training|total number of tokens|tokens used|token use"
        "|token consumption|sampled tokens"
    ),
    Noun("flops"): (
        "flops|flop|floating point operations|flops of the loss|loss flops"
        "|flop count|number of flops|compute of the loss|computation of the"
        " loss|compute cost of the loss|computational cost of the loss"
        "|flops of the algorithm|flops of the loss function"
    ),
}
_OBJECTS = {
    "answer": (
        "answer|answers|response|responses|completion|completions|output"
        "|outputs|solution|solutions|reply|replies|reasoning|generation"
        "|generations|chain of thought|chains of thought|cot|reasoning traces"
        "|traces|rollouts|thinking|explanations|sentences|chain of reasoning"
    ),
    "algorithm": (
        "algorithm|algorithms|loss|losses|loss function|objective|code"
        "|source|formula|method|source code|loss functions|program|recipe"
        "|update rule|description|design|implementation"
        "|expression|equations|equation|rule"
    ),
    "training": (
        "training|train|run|runs|training run|training runs|each run"
        "|per run|per candidate|learning|trains|optimisation"
        "|optimization|per training run|per training|each candidate"
    ),
    "campaign": (
        "search|campaign|whole search|whole campaign|discovery|budget"
        "|total budget|search budget|whole run|entire search"
        "|entire campaign|everything"
    ),
    "policy": "policy|model|models|system|policies|network",
    "problem": (
        "problems|problem|sets|task|tasks|benchmark|benchmarks|dataset"
        "|datasets|set of problems|questions|question|problem sets"
        "|problem set"
    ),
}
_QUALITIES = {
    ("length", -1): "short:shorter:shortest|brief:briefer:briefest",
    ("length", 1): "long:longer:longest|lengthy:lengthier",
    ("size", -1): "compact:compacter|small:smaller:smallest|tiny",
    ("size", 1): "large:larger:largest|big:bigger:biggest",
    ("brevity", 1): "concise|terse|succinct|laconic|crisp|to the point",
    ("brevity", -1): (
        "verbose|wordy:wordier|chatty:chattier|long winded|rambling"
        "|drawn out"
    ),
    ("speed", 1): (
        "fast:faster:fastest|quick:quicker:quickest|quickly|speedy:speedier"
        "|rapid|swift"
    ),
    ("speed", -1): "slow:slower:slowest|slowly|sluggish",
    ("simplicity", 1): (
        "simple:simpler:simplest|elegant|minimalist|minimalistic"
        "|easy to read|readable|uncomplicated|parsimonious|simply"
    ),
    ("simplicity", -1): (
        "complex|complicated|intricate|convoluted|elaborate|baroque"
        "|overcomplicated|over complicated"
    ),
    ("accuracy", 1): "accurate|correct|right",
    ("accuracy", -1): "inaccurate|incorrect|wrong",
    ("stability", 1): "stable|steady training",
    ("stability", -1): "unstable|drifting",
    ("diversity", 1): "diverse|varied|random|exploratory|explorative",
    ("diversity", -1): "deterministic|repetitive",
    ("validity", 1): ("valid|parsable|parseable|well formed|well formatted"),
    ("validity", -1): "invalid|unparsable|unparseable|malformed",
    ("closeness", 1): (
        "close to the reference|close to the reference policy"
        "|close to reference|close to the base model|near the base model"
        "|near the reference|near the reference policy|close to the base"
        "|close to the reference model|near the reference model"
        "|close to the original model|close to the initial policy"
    ),
}


def _forms(verb: str) -> list[str]:
  """A regular verb with its endings; irregular ones are written out."""
  head, _, tail = verb.partition(" ")
  stem = head[:-1] if head.endswith("e") else head
  third = head + ("es" if head.endswith(("ss", "sh", "x", "ch")) else "s")
  doubled = stem + stem[-1] if head in _DOUBLED else stem
  if head.endswith("y") and head[-2] not in "aeo":
    third, past = head[:-1] + "ies", head[:-1] + "ied"
  else:
    past = doubled + "ed"
  forms = [head, third, past, doubled + "ing"]
  return [f"{form} {tail}".strip() for form in forms]


_DOUBLED = (
    "drop cut trim slip skip ban let shed cap stop step plan get run hit forget"
    " permit"
).split()


def verbs(text: str) -> Iterator[str]:
  """Every form of verbs, in British and American spelling."""
  for verb in text.split("|"):
    for form in _forms(verb):
      yield form
      if "is" in form[3:]:
        yield form[:3] + form[3:].replace("is", "iz", 1)


def phrases() -> Iterator[tuple[str, Lexeme]]:
  """Phrases for what is measured; those of grammar are in another module."""
  for noun, names in _NOUNS.items():
    for name in names.split("|"):
      yield name, Lexeme(_K.METRIC, noun)
  for what, names in _OBJECTS.items():
    for name in names.split("|"):
      yield name, Lexeme(_K.OBJECT, what)
  for (name, sign), words in _QUALITIES.items():
    for word in words.split("|"):
      for position, form in enumerate(word.split(":")):
        yield form, Lexeme(_K.QUALITY, Quality(name, sign, position == 1))
  for phrase, names in sets.PHRASES.items():
    yield phrase, Lexeme(_K.SET, names)
