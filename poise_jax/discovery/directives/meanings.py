"""What each metric is, in words: for a model, and for whoever reads a reading."""

from collections.abc import Mapping

# What is measured, its unit, and where it is not plain which way is better.
_ABOUT: Mapping[str, str] = {
    "overall": "mean score of all problem sets, in points of 100",
    "response_length": "tokens of a sampled answer, reasoning included",
    "train_seconds": "seconds that training takes",
    "heldout_perplexity": (
        "perplexity of worked solutions of held-out problems of the scored"
        " sets, 1 or more; of no other text"
    ),
    "kl": "nats that training moved away from the base policy",
    "entropy": "nats per token at the end of training; diversity, exploration",
    "valid_rate": "part of answers with a readable result, 0 to 1",
    "description_length": (
        "bits of the loss's canonical text, compressed; simplicity is fewer"
    ),
    "tokens": "tokens sampled in training, in total",
    "flops": (
        "floating-point operations of the loss and its gradient on a small"
        " probe; not of training"
    ),
    "greedy_length": "tokens of the answer without sampling",
    "truncated_rate": "part of answers cut off at the longest length, 0 to 1",
}
_ABOUT_SETS: Mapping[str, str] = {
    "accuracy": "part of the problems of a set that are solved, 0 to 1",
    "pass_at_k": "part of a set solved in at least one of k tries, 0 to 1",
    "pass_at_1": "part of a set solved in one sampled try, 0 to 1",
}
# Of which the name alone would be taken for something else.
_MISTAKEN = ("heldout_perplexity", "description_length", "flops", "tokens")


def about(metric: str) -> str:
  """What a metric is.

  Args:
    metric: its canonical name.
  """
  return _ABOUT.get(metric) or _ABOUT_SETS[metric.partition("/")[0]]


def note(metric: str) -> str:
  """What to add behind a metric in a reading, empty where its name says it."""
  return f" ({about(metric)})" if metric in _MISTAKEN else ""
