from poise_jax.discovery.directives import (
    function_words,
    lexicon,
    unmeasured,
)

K = lexicon.Kind


def test_opposites_do_not_share_a_word():
  found = {}
  for phrase, lexeme in function_words.phrases():
    found.setdefault(phrase, []).append(lexeme)
  opposed = (
      (lexicon.Lexeme(K.CHANGE, 1), lexicon.Lexeme(K.CHANGE, -1)),
      (lexicon.Lexeme(K.CHANGE, "more"), lexicon.Lexeme(K.CHANGE, "less")),
      (lexicon.Lexeme(K.COMPARE, "<="), lexicon.Lexeme(K.COMPARE, ">=")),
  )
  for phrase, lexemes in found.items():
    for a, b in opposed:
      assert not (a in lexemes and b in lexemes), phrase


def test_every_kind_of_word_is_known():
  kinds = {lexeme.kind for _, lexeme in function_words.phrases()}
  kinds |= {lexeme.kind for _, lexeme in lexicon.phrases()}
  kinds |= {lexeme.kind for _, lexeme in unmeasured.phrases()}
  assert kinds == set(K)


def test_units_have_sizes():
  assert all(unit.factor > 0 for unit in function_words.UNITS)
