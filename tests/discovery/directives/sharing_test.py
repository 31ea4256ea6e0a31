from poise_jax.discovery.directives import clauses, lexicon, sharing, words

K = lexicon.Kind


def split(text):
  return sharing.completed(clauses.split(words.read(text)))


def test_what_is_shared_is_filled_in():
  _, second = split("reduce length and KL by 30%")
  assert second.all(K.CHANGE) == [-1]
  _, third = split("do not use length penalties or dual clipping")
  assert third.has(K.NOT)
  first, _ = split("accuracy and entropy should rise")
  assert first.all(K.CHANGE) == [1]
  first, second = split("shorter code and answers")
  assert first.all(K.OBJECT) == ["algorithm"]
  assert second.all(K.OBJECT) == ["answer"] and second.has(K.QUALITY)
  _, second = split("accuracy on AIME24 and AIME25")
  assert second.all(K.METRIC) == [lexicon.Noun("accuracy")]


def test_sentences_share_nothing():
  _, second = split("do not raise KL. Entropy")
  assert not second.has(K.NOT, K.CHANGE)


def test_negations_reach_as_far_as_a_person_would_take_them():
  for text in (
      "don't lower accuracy or raise KL",
      "without losing accuracy and raising KL",
      "avoid entropy collapse and KL explosion",
  ):
    _, second = split(text)
    assert second.has(K.NOT), text
  _, second = split("keep entropy from falling and KL from rising")
  assert second.has(K.HOLD)
  _, second = split("do not lower accuracy and raise KL")
  assert not second.has(K.NOT)


def test_weights_in_front_are_of_the_whole_list():
  _, second = split("mainly accuracy and simplicity")
  assert second.all(K.WEIGHT) == [2.0]
  _, second = split("accuracy first, then brevity")
  assert second.all(K.WEIGHT) == []


def test_a_number_alone_has_no_subject():
  _, second = split("accuracy must not fall, but 1% is fine")
  assert not second.has(K.METRIC)
  _, second = split("accuracy must not fall, and be at least 60%")
  assert second.has(K.METRIC)
