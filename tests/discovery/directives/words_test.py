import pytest

from poise_jax.discovery.directives import lexicon, words

K = lexicon.Kind


def kinds(text):
  return [word.kind for word in words.read(text).words]


def test_the_longest_phrase_is_taken():
  assert kinds("response length") == [K.METRIC]
  assert kinds("no more than 3 tokens") == [K.COMPARE, K.NUMBER]
  assert kinds("length penalty") == [K.MECHANISM]
  (found,) = words.read("pass@32").words
  assert found.value == lexicon.Noun("pass_at_k")
  assert words.read("MATH-500").words[0].value == ("MATH500",)
  assert words.read("aime 2025").words[0].value == ("AIME25",)


def test_signs_hyphens_and_case():
  assert kinds("KL \u2264 0.1") == kinds("kl <= 0.1")
  assert kinds("DUAL-CLIP") == [K.MECHANISM]
  assert kinds("response_length") == [K.METRIC]
  assert words.normalised("a - b") == "a , b"
  assert words.normalised("x: -20%") == "x: down by 20%"


def test_positions_are_those_of_the_text():
  read = words.read("Shorter   answers; keep it simple")
  assert [read.text[w.start : w.end] for w in read.words] == [
      w.text for w in read.words
  ]


def test_spelling_is_mended_and_told():
  read = words.read("shroter anwsers")
  assert read.mended == {"shroter": "shorter", "anwsers": "answers"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("shorter; be funny", "'funny' in 'be funny'"),
        ("a" * 4001, "at most 4000 characters"),
        ("\u6700\u77ed", "character"),
        ("1e999 tokens", "1e999"),
        ("cheaper", "perhaps you mean flops"),
        ("pass@8 on AIME24", "pass@8 is not measured: .* k = 32"),
        ("pass at 64", "pass@64 is not measured"),
    ],
)
def test_what_is_refused(text, message):
  with pytest.raises(words.DirectiveError, match=message):
    words.read(text)


def test_long_clauses_are_cut_in_messages():
  assert len(words.shown("x " * 400)) == 160
