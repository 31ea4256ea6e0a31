import pytest

from poise_jax.discovery.directives import lexicon, words

K = lexicon.Kind


@pytest.mark.parametrize(
    "text, word, kind, value",
    [
        ("accuracy loss", "loss", K.HARM, "down"),
        ("a simple loss", "loss", K.OBJECT, "algorithm"),
        ("less than 3", "less than", K.COMPARE, "<"),
        ("less than the root", "less", K.CHANGE, "less"),
        ("accuracy weight 2", "weight 2", K.WEIGHT, 2.0),
        ("5% above the root", "above", K.CHANGE, "more"),
        ("above 5%", "above", K.COMPARE, ">"),
        ("bring entropy up to 1", "up to", K.CHANGE, 1),
        ("up to 3 hours", "up to", K.COMPARE, "<="),
        ("300 or less", "or less", K.COMPARE, "<="),
        ("longer or less accurate", "less", K.CHANGE, "less"),
        ("faster training too", "too", K.FILLER, None),
        ("too long", "too", K.TOO, None),
        ("sacrifice accuracy for brevity", "brevity", K.FILLER, None),
        ("prefer accuracy to brevity", "to", K.IMPORTANT, 2.0),
        ("prefer to shorten answers", "to", K.TO, None),
        ("prefer accuracy; cut length to 3", "to", K.TO, None),
        ("maximum length 300", "maximum", K.COMPARE, "<="),
        ("minimal accuracy of 60%", "minimal", K.COMPARE, ">="),
        ("maximum accuracy", "maximum", K.CHANGE, 1),
    ],
)
def test_words_by_their_neighbours(text, word, kind, value):
  (found,) = [w for w in words.read(text).words if w.text.lower() == word]
  assert found.kind is kind
  if kind is not K.FILLER:
    assert found.value == value
