"""Text to tokens and back, through the tokenizer of a Hugging Face policy.

Everything is read from a local directory or from the local cache; nothing is
downloaded, and code that a directory brings along is never run.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import json
import os
import pathlib
from typing import Any

from jaxtyping import Int
import numpy as np

# What a tokenizer is made from; one of these must be there.
_SOURCES = ("tokenizer.json", "vocab.json", "tokenizer.model")
# Read by `transformers` as text, which says too little of what is wrong.
_TEXTS = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
)
_EOS_FILES = ("generation_config.json", "config.json")


@dataclasses.dataclass(frozen=True)
class TextTokenizer:
  """A tokenizer and what a rollout must know of it.

  Attributes:
    directory: where it was read, for messages.
    hugging_face: the tokenizer of `transformers`.
    pad_id: fills prompts at their left and completions after their end.
    pad_reason: where `pad_id` comes from, in words.
    eos_ids: any of these ends a completion; at least one, ascending.
    beginning: ids that the tokenizer itself puts before a text, often none.
    special_tokens: texts that are read as one token with a meaning of its own.
    vocab_size: highest id plus one. A model may have more.
  """

  directory: str
  hugging_face: Any = dataclasses.field(repr=False)
  pad_id: int
  pad_reason: str
  eos_ids: tuple[int, ...]
  beginning: tuple[int, ...]
  special_tokens: tuple[str, ...] = dataclasses.field(repr=False)
  vocab_size: int

  def encode(
      self, texts: Sequence[str], *, beginning: bool = True
  ) -> list[list[int]]:
    """Encodes texts; special tokens written out in them count as such.

    Args:
      texts: any, also empty ones.
      beginning: whether to put `self.beginning` before each. Chat templates
        that bring their own beginning-of-text go without.

    Returns:
      Ids of each text, of different lengths; nothing is cut or padded, and no
      end-of-text is added.

    Raises:
      ValueError: if a text has half of a surrogate pair.
    """
    for row, text in enumerate(texts):
      try:
        text.encode()
      except UnicodeEncodeError as e:
        raise ValueError(
            f"`texts` must be valid Unicode, text {row} has half of a surrogate"
            f" pair, {text[e.start : e.end]!r}, at character {e.start}; remove"
            " it"
        ) from e
    if not texts:
      return []
    encoded = self.hugging_face(
        list(texts),
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]
    before = self.beginning if beginning else ()
    return [[*before, *ids] for ids in encoded]

  def decode(
      self,
      tokens: Int[np.ndarray, "N T"],
      lengths: Int[np.ndarray, "N"],
  ) -> list[str]:
    """Decodes completions up to `lengths`; never raises on any tokens.

    Special tokens are left out, end-of-text among them, and so are ids that
    only a padded model knows. Bytes that are not UTF-8, such as half of a
    character at the length limit, become U+FFFD.
    """
    known = (tokens >= 0) & (tokens < self.vocab_size)
    return [
        self.hugging_face.decode(
            row[:length][keep[:length]].tolist(),
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        for row, keep, length in zip(tokens, known, lengths, strict=True)
    ]

  def check_vocabulary(self, model_vocab_size: int) -> None:
    """Refuses a model without an embedding for each token.

    More embeddings than tokens are fine: models are padded to round numbers.

    Raises:
      ValueError: naming the two sizes and a token that the model lacks.
    """
    if self.vocab_size <= model_vocab_size:
      return
    highest = self.vocab_size - 1
    raise ValueError(
        f"the tokenizer in {self.directory!r} must not have ids beyond the"
        f" model's vocabulary of {model_vocab_size}, got {self.vocab_size}"
        f" tokens; the last is {highest},"
        f" {self.hugging_face.convert_ids_to_tokens(highest)!r}. Use the"
        " tokenizer that came with the model, or enlarge its embedding"
    )


def load(
    directory: str | os.PathLike[str], *, stop: Sequence[str] = ()
) -> TextTokenizer:
  """Reads the tokenizer of a Hugging Face directory.

  The end-of-text ids are those of the tokenizer, of generation_config.json and
  of config.json, together. Base models often name only the one that ends a
  document: to end the turns of a chat as well, pass `stop=["<|im_end|>"]`.

  Args:
    directory: a local directory, or an id such as "Qwen/Qwen2.5-Math-1.5B" of
      a model in the local cache.
    stop: further tokens that end a completion, by their text.

  Raises:
    FileNotFoundError: if there is no such directory, neither here nor in the
      cache, or no tokenizer in it.
    ValueError: if a file is broken, or an end-of-text id is missing, not a
      token, or (from `stop`) more than one token.
  """
  path = _find(directory)
  _check_files(path)
  # Takes seconds to import.
  import transformers

  try:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False
    )
    vocabulary = tokenizer.get_vocab()
    beginning = _beginning(tokenizer)
  except Exception as e:  # The library documents none, and raises many.
    raise ValueError(
        f"cannot read the tokenizer in {str(path)!r}:"
        f" {type(e).__name__}: {e}; copy its files anew from where they came"
    ) from e
  if not vocabulary:
    raise ValueError(f"the tokenizer in {str(path)!r} has no tokens")
  eos_ids = _eos_ids(path, tokenizer, vocabulary, stop)
  pad_id, pad_reason = _padding(tokenizer, eos_ids)
  added = tokenizer.added_tokens_decoder.values()
  special = {token.content for token in added if token.special}
  return TextTokenizer(
      directory=str(path),
      hugging_face=tokenizer,
      pad_id=pad_id,
      pad_reason=pad_reason,
      eos_ids=eos_ids,
      beginning=beginning,
      special_tokens=tuple(sorted(special | set(tokenizer.all_special_tokens))),
      vocab_size=max(vocabulary.values()) + 1,
  )


def _find(directory: str | os.PathLike[str]) -> pathlib.Path:
  """The directory itself, or that of a cached model."""
  path = pathlib.Path(directory)
  if not path.is_dir():
    path = _cached(os.fspath(directory))
  if not any((path / name).is_file() for name in _SOURCES):
    raise FileNotFoundError(
        f"`directory` must hold a tokenizer, one of {', '.join(_SOURCES)}; there"
        f" is none in {str(path)!r}: copy it from the model's original"
    )
  return path


def _cached(name: str) -> pathlib.Path:
  """Where the files of a cached model are."""
  import huggingface_hub
  from huggingface_hub import errors

  try:
    return pathlib.Path(
        huggingface_hub.snapshot_download(name, local_files_only=True)
    )
  except (errors.LocalEntryNotFoundError, errors.HFValidationError) as e:
    raise FileNotFoundError(
        "`directory` must be a directory, or the id of a model in the local"
        f" Hugging Face cache, got {name!r}; nothing is downloaded, fetch it"
        " first"
    ) from e


def _check_files(path: pathlib.Path) -> None:
  """Refuses files that are not UTF-8 or, if they should be, not JSON."""
  for file in filter(pathlib.Path.is_file, (path / name for name in _TEXTS)):
    try:
      text = file.read_bytes().decode()
      if file.suffix == ".json" and not isinstance(json.loads(text), dict):
        raise ValueError("it must hold one object")
    except UnicodeDecodeError as e:
      raise ValueError(
          f"{file}: not UTF-8 (byte 0x{e.object[e.start]:02x} at {e.start});"
          " copy the file anew"
      ) from e
    except (ValueError, RecursionError) as e:
      raise ValueError(
          f"{file}: not valid JSON, {e}; copy the file anew"
      ) from e


def _beginning(tokenizer: Any) -> tuple[int, ...]:
  """What the tokenizer puts before a text, as on its own accord."""
  special = set(tokenizer.all_special_ids)
  return tuple(itertools.takewhile(special.__contains__, tokenizer.encode("a")))


def _eos_ids(
    path: pathlib.Path,
    tokenizer: Any,
    vocabulary: dict[str, int],
    stop: Sequence[str],
) -> tuple[int, ...]:
  """All ids that end a completion, from wherever they are named."""
  named = [(tokenizer.eos_token_id, "the tokenizer")]
  for file in filter(pathlib.Path.is_file, map(path.joinpath, _EOS_FILES)):
    value = json.loads(file.read_text("utf-8")).get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    named += [(token, str(file)) for token in values]
  for text in stop:
    if text not in vocabulary:
      raise ValueError(
          f"`stop` must name tokens of {str(path)!r}, got {text!r}, which is"
          " not one token; leave it out"
      )
    named.append((vocabulary[text], "`stop`"))
  found, known = set(), set(vocabulary.values())
  for token, where in named:
    if token is None:
      continue
    if type(token) is not int or token not in known:
      raise ValueError(
          "`eos_token_id` must be the id of a token or a list of such ids, got"
          f" {token!r} from {where}; correct it"
      )
    found.add(token)
  if not found:
    raise ValueError(
        f"no end-of-text token in {str(path)!r}: completions would never end;"
        " name one as `eos_token` in tokenizer_config.json or as `eos_token_id`"
        " in generation_config.json"
    )
  return tuple(sorted(found))


def _padding(tokenizer: Any, eos_ids: tuple[int, ...]) -> tuple[int, str]:
  """An id to pad with, and why this one."""
  if tokenizer.pad_token_id is not None:
    return tokenizer.pad_token_id, "the tokenizer's own padding token"
  eos = tokenizer.eos_token_id
  pad_id = eos_ids[0] if eos is None else eos
  return pad_id, (
      "the tokenizer has no padding token, so end-of-text,"
      f" {tokenizer.convert_ids_to_tokens(pad_id)!r}, fills up; padding is told"
      " from text by position and never by its id"
  )
