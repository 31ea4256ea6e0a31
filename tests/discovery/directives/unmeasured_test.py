import pytest

from poise_jax.discovery.directives import lexicon, unmeasured, words


@pytest.mark.parametrize(
    "text, message",
    [
        ("compute", "`tokens`"),
        ("training compute", "`flops of the loss`"),
        ("compute budget", "`tokens`"),
        ("computational cost", "`tokens`"),
        ("number of operations", "`description length` in bits"),
        ("hard", "problem set"),
        ("training set", "held-out"),
        ("except for", "exception"),
        ("every set", "name them"),
    ],
)
def test_words_with_what_to_say_instead(text, message):
  (word,) = words.read(text).words
  assert word.kind is lexicon.Kind.UNMEASURED
  assert message in word.value


def test_no_phrase_is_also_something_that_is_measured():
  measured = {phrase for phrase, _ in lexicon.phrases()}
  assert not measured & {phrase for phrase, _ in unmeasured.phrases()}


def test_flops_of_the_loss_are_measured():
  (word,) = words.read("compute of the loss").words
  assert word.value == lexicon.Noun("flops")
