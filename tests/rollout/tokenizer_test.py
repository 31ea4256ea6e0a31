"""Text to tokens and back."""

import numpy as np
import pytest

from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, demonstrations


def test_symbols_written_by_hand(words):
  assert words.encode_completion("+4721\\boxed{63}") == [
      *(10, 4, 7, 2, 1),
      *(15, 6, 3, 16),
      19,
  ]


def test_prompts_start_with_beginning_of_text(words):
  ids = words.encode_prompts(["123+4=________", "999*9-8=______"])
  assert ids.shape == (2, arithmetic.PROMPT_LENGTH)
  assert ids.dtype == np.int32
  assert (ids[:, 0] == tokenizer_lib.SYMBOLS.index("<s>")).all()


def test_every_style_survives_a_round_trip(words):
  rng = np.random.default_rng(0)
  tiers = [arithmetic.Tier(k, 0.4) for k in range(1, 6)]
  for problem in arithmetic.sample(rng, tiers, 40, arithmetic.Split.TRAIN):
    for style in demonstrations.skill_mixture(problem):
      text = style(problem, rng)
      ids = np.array([words.encode_completion(text)], np.int32)
      assert words.decode(ids, np.array([ids.shape[1]])) == [text]


def test_decoding_stops_at_the_length(words):
  ids = np.array([[1, 2, 19, 17], [1, 2, 3, 4], [17, 17, 17, 17]], np.int32)
  assert words.decode(ids, np.array([3, 4, 0])) == ["12", "1234", ""]


def test_unknown_text_is_refused(words):
  with pytest.raises(ValueError, match="cannot be written"):
    words.encode_completion("twelve")


def test_what_is_built_is_what_is_shipped(words):
  built = tokenizer_lib.Tokenizer(tokenizer_lib.build())
  text = "-3210*9999;\\boxed{000}"
  assert built.encode_completion(text) == words.encode_completion(text)
  assert (built.pad_id, built.eos_id, built.vocab_size) == (17, 19, 20)
  assert (words.pad_id, words.eos_id, words.vocab_size) == (17, 19, 20)


def test_a_directory_without_tokenizer_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match="tokenizer.json"):
    tokenizer_lib.load(tmp_path)
