"""Words that name what is not measured, with what to say instead.

They are understood, and refused: as fillers they would be dropped, and with
them what the sentence is about.
"""

from collections.abc import Iterator

from poise_jax.discovery.directives import lexicon

_PHRASES = {
    (
        "compute|computation|training compute|compute cost|computational cost"
        "|training flops|compute budget|compute usage|cost in compute"
        "|compute use|computing|compute of training|flops of training"
        "|training computation"
    ): (
        "the compute of training is not measured; say `tokens` for what is"
        " sampled in training, or `flops of the loss`"
    ),
    (
        "operations|number of operations|arithmetic operations|operation count"
        "|number of arithmetic operations|ops"
    ): (
        "operations are counted in two ways: say `flops` for those of the loss"
        " on a probe, or `description length` in bits for how long it is"
    ),
    (
        "hard|harder|hardest|easy|easier|easiest|difficult|tough|challenging"
        "|tricky|difficulty"
    ): "how hard a problem is is not recorded; name a problem set",
    (
        "each set|every set|any set|some sets|each of the sets|any of the sets"
        "|every one of the sets|each one of the sets"
    ): "no limit is of each set; name them, as in `on AIME24 and AMC`",
    (
        "training set|training sets|train set|training data|training problems"
        "|training questions|training examples|training benchmarks|train data"
        "|training tasks|training dataset"
    ): (
        "only held-out problems are scored, none of those trained on; name a"
        " problem set"
    ),
    "except|except for|excepting|excluding|with the exception of|other than": (
        "an exception can't be expressed; say each limit by itself, as in"
        " `accuracy may drop by at most 1%`, or name the problem sets"
    ),
}


def phrases() -> Iterator[tuple[str, lexicon.Lexeme]]:
  """Phrases with the message that refuses them."""
  for names, message in _PHRASES.items():
    for name in names.split("|"):
      yield name, lexicon.Lexeme(lexicon.Kind.UNMEASURED, message)
