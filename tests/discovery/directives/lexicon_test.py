from poise_jax.discovery.directives import lexicon
from poise_jax.discovery.objectives import objective as objectives

K = lexicon.Kind


def test_all_metrics_have_names():
  nouns = {
      lexeme.value.metric
      for _, lexeme in lexicon.phrases()
      if lexeme.kind is K.METRIC
  }
  assert set(objectives.NAMES) <= nouns
  assert nouns - set(objectives.NAMES) == set(objectives.FAMILIES)


def test_no_phrase_is_two_things():
  seen = {}
  for phrase, lexeme in lexicon.phrases():
    assert seen.setdefault(phrase, lexeme) == lexeme, phrase


def test_verbs_in_all_forms_and_spellings():
  forms = set(lexicon.verbs("minimise|cut|simplify|push up"))
  assert {"minimise", "minimizing", "minimized", "cutting"} <= forms
  assert {"simplifies", "simplified", "simplifying", "pushes up"} <= forms
