r"""Text to tokens and back, through an ordinary Hugging Face tokenizer.json."""

from collections.abc import Sequence
import os
import pathlib
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
import tokenizers

PAD, BOS, EOS = "_", "<s>", "</s>"
SYMBOLS = (*"0123456789+-*=;", "\\boxed{", "}", PAD, BOS, EOS)


@runtime_checkable
class Vocabulary(Protocol):
  """What sampling needs to know of any tokenizer.

  Attributes:
    pad_id: fills completions after their end.
    eos_ids: end a completion.
  """

  pad_id: int
  eos_ids: tuple[int, ...]


class Tokenizer:
  """Encodes fixed-width prompts and decodes batches of completions.

  Attributes:
    pad_id: fills prompts up to their width and completions after their end.
    eos_id: ends a completion.
    eos_ids: it alone.
    vocab_size: number of tokens.
  """

  def __init__(self, tokenizer: tokenizers.Tokenizer):
    self._tokenizer = tokenizer
    self.pad_id = self._id(PAD)
    self.eos_id = self._id(EOS)
    self.eos_ids = (self.eos_id,)
    self.vocab_size = tokenizer.get_vocab_size()
    symbols = [tokenizer.id_to_token(i) for i in range(self.vocab_size)]
    self._symbols = np.array(symbols, dtype=object)

  def _id(self, token: str) -> int:
    token_id = self._tokenizer.token_to_id(token)
    if token_id is None:
      raise ValueError(f"tokenizer.json has no token {token!r}")
    return token_id

  def encode_prompts(self, prompts: Sequence[str]) -> NDArray[np.int32]:
    """Encodes prompts of equal width, with beginning-of-text; [P, S].

    Raises:
      ValueError: if a character is unknown or the widths differ.
    """
    return np.array(self._encode(prompts, special=True), np.int32)

  def encode_completion(self, text: str) -> list[int]:
    """Encodes one completion, with end-of-text."""
    return [*self._encode([text], special=False)[0], self.eos_id]

  def _encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    encoded = self._tokenizer.encode_batch(
        list(texts), add_special_tokens=special
    )
    for text, encoding in zip(texts, encoded, strict=True):
      if "".join(encoding.tokens[special:]) != text:
        raise ValueError(f"text cannot be written in the vocabulary: {text!r}")
    return [encoding.ids for encoding in encoded]

  def decode(
      self, tokens: NDArray[np.int32], lengths: NDArray[np.integer]
  ) -> list[str]:
    """Decodes completions [N, T] up to `lengths`, without end-of-text."""
    rows = zip(self._symbols[tokens], tokens, lengths, strict=True)
    return [
        "".join(symbols[: n - 1 if n and row[n - 1] == self.eos_id else n])
        for symbols, row, n in rows
    ]


def build() -> tokenizers.Tokenizer:
  r"""Makes the tokenizer of the embedded task: 20 symbols, ``\boxed{`` is one.

  A byte-level BPE without merges, as other libraries expect of a Qwen2 model.
  """
  vocabulary = {symbol: i for i, symbol in enumerate(SYMBOLS)}
  tokenizer = tokenizers.Tokenizer(
      tokenizers.models.BPE(vocab=vocabulary, merges=[])
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
  )
  tokenizer.add_tokens(
      [tokenizers.AddedToken("\\boxed{", special=False, normalized=False)]
  )
  tokenizer.add_special_tokens(
      [tokenizers.AddedToken(token, special=True) for token in (BOS, EOS)]
  )
  return tokenizer


def load(directory: str | os.PathLike[str]) -> Tokenizer:
  """Reads tokenizer.json of a Hugging Face directory.

  Raises:
    FileNotFoundError: if there is none.
  """
  path = pathlib.Path(directory) / "tokenizer.json"
  if not path.is_file():
    raise FileNotFoundError(f"no tokenizer.json in {os.fspath(directory)!r}")
  return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))
