"""Real tokenizers, trained here on a few lines, and broken ones."""

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import tokenizers

from poise_jax.rollout import text_tokenizer

LINES = ["Let $x = 12$. Find $x + 30$.", "So the answer is \\boxed{42}."] * 4
END, TURN, OPEN = "<|endoftext|>", "<|im_end|>", "<|im_start|>"


def write(directory, *, beginning="", **config):
  """Writes a byte-level BPE as Qwen's are, with special tokens at its end."""
  directory.mkdir(exist_ok=True)
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=280,
      initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
  )
  tokenizer.train_from_iterator(LINES, trainer)
  tokenizer.add_special_tokens([END, OPEN, TURN])
  if beginning:
    first = tokenizer.token_to_id(beginning)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{beginning} $A {END}",
        special_tokens=[(beginning, first), (END, tokenizer.token_to_id(END))],
    )
  tokenizer.save(str(directory / "tokenizer.json"))
  values = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
  dump(directory / "tokenizer_config.json", **values | config)
  return directory


def dump(path, **values):
  path.write_text(json.dumps(values), "utf-8")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
  directory = tmp_path_factory.mktemp("policies") / "original"
  write(directory, pad_token=OPEN)
  dump(directory / "generation_config.json", eos_token_id=[282, 280])
  return directory


@pytest.fixture
def directory(original, tmp_path):
  """A copy that may be broken."""
  return shutil.copytree(original, tmp_path / "policy")


@pytest.fixture(scope="module")
def words(original):
  return text_tokenizer.load(original)


def test_what_is_known_of_it(words):
  # 256 bytes and 24 merges, then END, OPEN and TURN.
  assert words.vocab_size == 283
  assert words.eos_ids == (280, 282)
  assert words.pad_id == 281
  assert "padding token" in words.pad_reason
  assert words.beginning == ()
  assert words.special_tokens == (END, TURN, OPEN)


def test_ids_of_bytes(words):
  # No line above has an X, so nothing is merged; special tokens are one.
  x = words.hugging_face.convert_tokens_to_ids("X")
  assert words.encode(["XX", f"X{END}", "", TURN]) == [
      [x, x],
      [x, 280],
      [],
      [282],
  ]
  assert words.encode([]) == []


@pytest.mark.parametrize(
    "text", [*LINES[:2], "  a  b ,  c . ", "∑ ≤ 数学 🙂\r\n\t\x00", "<think>"]
)
def test_round_trip(words, text):
  (ids,) = words.encode([text])
  tokens = np.full((1, len(ids) + 3), words.pad_id, np.int32)
  tokens[0, : len(ids)] = ids
  assert words.decode(tokens, np.array([len(ids)])) == [text]


def test_decoding_by_hand(words):
  ids = words.encode(["é12", "\\boxed{42}"])
  (e1, e2), digits = ids[0][:2], ids[0][2:]
  rows = [
      [e1, e2, *digits, 280],  # With its end-of-text, which is not text.
      [e2, *digits, 282],  # A character that begins in its middle.
      [*digits, e1],  # One that was cut.
      [*digits, 5000, -1, *digits],  # Ids of a padded model, and of none.
      [281, 280, *digits],  # Nothing but special tokens up to the length.
  ]
  lengths = [len(row) for row in rows[:-1]] + [2]
  tokens = np.full((len(rows), 12), 280, np.int32)
  for row, ids in zip(tokens, rows, strict=True):
    row[: len(ids)] = ids
  assert words.decode(tokens, np.array(lengths)) == [
      "é12",
      "\ufffd12",
      "12\ufffd",
      "1212",
      "",
  ]


def test_no_tokens_can_make_decoding_raise(words):
  rng = np.random.default_rng(0)
  tokens = rng.integers(-(2**31), 2**31, (64, 20)).astype(np.int32)
  tokens[::2] = rng.integers(0, 300, (32, 20))
  lengths = rng.integers(0, 21, 64)
  texts = words.decode(tokens, lengths)
  assert len(texts) == 64 and all(text.encode() is not None for text in texts)
  assert words.decode(tokens[:0], lengths[:0]) == []


def test_half_of_a_surrogate_pair_is_refused(words):
  with pytest.raises(ValueError, match=r"text 1 has half.*ud800.*character 2"):
    words.encode(["fine", "ab\ud800"])


def test_vocabularies(words):
  words.check_vocabulary(283)
  words.check_vocabulary(512)
  with pytest.raises(
      ValueError, match=r"vocabulary of 282.*283 tokens.*im_end"
  ):
    words.check_vocabulary(282)


def test_a_tokenizer_that_begins_texts(tmp_path):
  # Its end-of-text would stand between a prompt and its completion.
  words = text_tokenizer.load(write(tmp_path, beginning=OPEN, bos_token=OPEN))
  plain = words.encode(["12"], beginning=False)[0]
  assert words.beginning == (281,)
  assert words.encode(["12"]) == [[281, *plain]]
  assert 281 not in plain and 280 not in plain


def test_padding_with_end_of_text(tmp_path):
  words = text_tokenizer.load(write(tmp_path))
  assert words.pad_id == 280
  assert "no padding token" in words.pad_reason and END in words.pad_reason


def test_ends_are_those_of_all_files(directory):
  dump(directory / "generation_config.json", eos_token_id=281)
  assert text_tokenizer.load(directory).eos_ids == (280, 281)
  dump(directory / "config.json", model_type="qwen2", eos_token_id=[5, 281])
  assert text_tokenizer.load(directory).eos_ids == (5, 280, 281)
  dump(directory / "config.json", model_type="qwen2", eos_token_id=None)
  dump(directory / "generation_config.json")
  assert text_tokenizer.load(directory).eos_ids == (280,)
  words = text_tokenizer.load(str(directory), stop=[TURN])
  assert words.eos_ids == (280, 282)
  with pytest.raises(ValueError, match="`stop`.*'the end'.*not one token"):
    text_tokenizer.load(directory, stop=["the end"])


@pytest.mark.parametrize("token", [283, -1, "</s>", True, 1.0, [280, "x"], {}])
def test_an_end_that_is_no_token(directory, token):
  dump(directory / "generation_config.json", eos_token_id=token)
  with pytest.raises(ValueError, match="eos_token_id.*generation_config.json"):
    text_tokenizer.load(directory)


def test_completions_must_be_able_to_end(directory):
  (directory / "generation_config.json").unlink()
  dump(
      directory / "tokenizer_config.json",
      tokenizer_class="PreTrainedTokenizerFast",
  )
  with pytest.raises(ValueError, match="no end-of-text.*`eos_token`"):
    text_tokenizer.load(directory)


def test_directories_without_tokenizer(tmp_path):
  dump(tmp_path / "config.json", model_type="qwen2")
  with pytest.raises(FileNotFoundError, match="tokenizer.json.*there is none"):
    text_tokenizer.load(tmp_path)
  for missing in (tmp_path / "nowhere", "somebody/nowhere", "a b/c/d", ""):
    with pytest.raises(
        FileNotFoundError, match="nothing is downloaded|none in"
    ):
      text_tokenizer.load(missing)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "generation_config.json"],
)
@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:10] + b"\xff" + data[10:], "UTF-8.*0xff at 10"),
        (lambda data: data[: len(data) // 2], "not valid JSON"),
        (lambda data: b"[" + data + b"]", "one object"),
        (lambda data: b"", "not valid JSON"),
        (lambda data: b"[" * 100_000, "not valid JSON"),
    ],
)
def test_broken_files_are_named(directory, name, damage, message):
  path = directory / name
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(ValueError, match=f"{name}: .*{message}"):
    text_tokenizer.load(directory)


@pytest.mark.parametrize("text", ["{}", '{"model": {"type": "None"}}'])
def test_files_of_something_else(directory, text):
  (directory / "tokenizer.json").write_text(text)
  with pytest.raises(ValueError, match="cannot read the tokenizer.*copy"):
    text_tokenizer.load(directory)


def test_code_in_a_directory_is_not_run(directory):
  (directory / "mine.py").write_text("raise SystemExit('ran')")
  dump(
      directory / "tokenizer_config.json",
      auto_map={"AutoTokenizer": ["mine.Mine", None]},
      tokenizer_class="Mine",
      eos_token=END,
  )
  with pytest.raises(ValueError, match="cannot read the tokenizer"):
    text_tokenizer.load(directory)


def test_a_cached_model_by_its_id(original, tmp_path, monkeypatch):
  model = tmp_path / "models--somebody--policy"
  shutil.copytree(original, model / "snapshots" / "0123abcd")
  (model / "refs").mkdir()
  (model / "refs" / "main").write_text("0123abcd")
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
  assert text_tokenizer.load("somebody/policy").eos_ids == (280, 282)
