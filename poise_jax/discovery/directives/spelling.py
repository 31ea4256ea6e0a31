"""Which word of a vocabulary a misspelt one is meant to be, if that is clear."""

from collections.abc import Callable, Collection

# Words that are close to one of the lexicon, and are not that one.
_OTHERS = frozenset(
    "safer safety lover louder power test tests smarter clever cleaner clearer"
    " clear nicer nice kinder fair fairer fairness finer style cost costly"
    " cheaper cheap expensive latency memory quality creative creativity fun"
    " funny funnier human helpful harmless honest robust robustness reliable"
    " reliability generality generalise generalize generalisation"
    " generalization reward rewards magic happy happier pretty prettier words"
    " word lines line sentence euros euro pounds yen bananas energy carbon"
    " inference between latent gradient gradients variance noise engaging"
    " polite interesting original novel novelty sound solid steps rounds"
    " generations gpu gpus hallucinate hallucinations hallucination strange"
    " beautiful lovely cool awesome natural fluent fluency coherent coherence"
    " clarity readability consistent consistency bias toxic toxicity tone"
    " loader minus negative dapo letter latter taste talk".split()
)
_HINTS = {
    "cheap": "flops, tokens or train_seconds",
    "cheaper": "flops, tokens or train_seconds",
    "cost": "flops, tokens or train_seconds",
    "costly": "flops, tokens or train_seconds",
    "expensive": "flops, tokens or train_seconds",
    "quality": "overall, accuracy/SET or valid_rate",
    "reward": "overall or accuracy/SET",
    "rewards": "overall or accuracy/SET",
    "latency": "response_length (in tokens)",
    "inference": "response_length (in tokens)",
    "words": "response_length in tokens",
    "lines": "description_length in bits",
    "euros": "dollars",
    "euro": "dollars",
    "pounds": "dollars",
    "between": "two limits, `at least A and at most B`",
    "generalisation": "heldout_perplexity or accuracy/SET",
    "generalization": "heldout_perplexity or accuracy/SET",
    "robust": "overall or kl",
    "robustness": "overall or kl",
    "variance": "kl or entropy",
    "rounds": "a budget in hours, candidates or dollars",
    "gpu": "a budget in hours, candidates or dollars",
}
_CONTRACTED = {
    word.replace("'", ""): word
    for word in (
        "don't doesn't can't won't shouldn't mustn't isn't aren't wouldn't"
        " didn't".split()
    )
}


def hint(word: str) -> str:
  """What to say instead of a word that means nothing measurable."""
  return f"; perhaps you mean {_HINTS[word]}" if word in _HINTS else ""


def distance(a: str, b: str) -> int:
  """Letters to insert, drop, replace or swap with the next, from a to b."""
  rows = [list(range(len(b) + 1))]
  for i, x in enumerate(a, 1):
    row = [i]
    for j, y in enumerate(b, 1):
      best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
      if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
        best = min(best, rows[-2][j - 2] + 1)
      row.append(best)
    rows.append(row)
  return rows[-1][-1]


def nearest(
    word: str,
    vocabulary: Collection[str],
    meaning: Callable[[str], object],
) -> tuple[str | None, list[str]]:
  """The word that is meant, or those that may be.

  One error is forgiven in words of four letters, two from nine on; the first
  letter has to be right. Of several words a swap of letters is likelier than
  a lost letter, that than a double one, and that than a wrong one.

  Args:
    word: in lower case, not in the vocabulary.
    vocabulary: all words that there are.
    meaning: of a word; words of one meaning are not ambiguous.

  Returns:
    The word, or None; and up to three words near it if it is None.
  """
  if word in _CONTRACTED:
    return _CONTRACTED[word], []
  allowed = 0 if len(word) < 4 else 1 if len(word) < 9 else 2
  if word in _OTHERS or not allowed or len(word) > 40:
    return None, []
  ranked = sorted(
      (distance(word, other), _rank(word, other), other)
      for other in vocabulary
      if other[0] == word[0]
      and len(other) > 2
      and abs(len(other) - len(word)) <= 2
  )
  close = [entry for entry in ranked if entry[0] <= allowed]
  best = [entry for entry in close if entry[:2] == close[0][:2]]
  if best and len({repr(meaning(other)) for _, _, other in best}) == 1:
    return best[0][2], []
  return None, [entry[2] for entry in ranked if entry[0] <= 2][:3]


def _rank(word: str, other: str) -> int:
  """How likely the error is, the likeliest first."""
  if sorted(word) == sorted(other):
    return 0
  if len(other) > len(word):
    return 1
  return 2 if len(other) < len(word) else 3
