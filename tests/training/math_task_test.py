"""From files to the problems of a run: what is left out, and why."""

import json

import pytest
import tokenizers

from poise_jax.rollout import chat, text_tokenizer
from poise_jax.training import math_task, prompts

TOPICS = (
    *("apples", "boats", "cats", "dogs", "eggs", "figs"),
    *("goats", "hats", "inns", "jars"),
)


def record(index, topic):
  return {
      "id": topic,
      "problem": f"How many {topic} are {index} and two more {topic} in all?",
      "answer": str(index + 2),
      "level": 1 + index % 5,
  }


def write(path, records):
  path.write_text("\n".join(map(json.dumps, records)), "utf-8")
  return str(path)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  """A tokenizer of single bytes."""
  directory = tmp_path_factory.mktemp("words")
  symbols = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens(["</s>"])
  tokenizer.save(str(directory / "tokenizer.json"))
  fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
  (directory / "tokenizer_config.json").write_text(json.dumps(fields))
  return text_tokenizer.load(directory)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  records = [record(i, topic) for i, topic in enumerate(TOPICS)]
  return write(tmp_path_factory.mktemp("data") / "sums.jsonl", records)


def choose(words, file, **settings):
  config = math_task.ProblemsConfig(source=file, template="none", **settings)
  return config, math_task.choose(config, words, chat.TEMPLATES["none"])


def test_all_of_a_file(words, file):
  _, chosen = choose(words, file)
  assert [p.id for p in chosen.problems] == list(TOPICS)
  assert chosen[1:] == (10, 0, 0, ())


def test_levels_then_a_draw(words, file):
  _, chosen = choose(words, file, levels=(3, 4))
  assert [p.id for p in chosen.problems] == ["cats", "dogs", "hats", "inns"]
  assert chosen.read == 4
  _, drawn = choose(words, file, levels=(3, 4), count=2, seed=1)
  assert len(drawn.problems) == 2
  assert set(drawn.problems) < set(chosen.problems)


def test_what_is_evaluated_on_is_left_out(words, file, tmp_path):
  same = record(0, "apples") | {
      "problem": record(0, "apples")["problem"].upper()
  }
  path = write(tmp_path / "evaluation.jsonl", [same, record(8, "zebras")])
  _, chosen = choose(words, file, apart_from=(path,))
  assert [p.id for p in chosen.problems] == list(TOPICS[1:])
  assert (chosen.read, chosen.overlapping) == (10, 1)
  assert str(chosen).startswith("9 of 10 problems to train on; 1 are also")
  with pytest.raises(ValueError, match="`apart_from` must leave at least one"):
    choose(words, file, apart_from=(file,))


def test_long_prompts_are_left_out(words, file):
  lengths = [len(record(i, t)["problem"]) for i, t in enumerate(TOPICS)]
  limit = sorted(lengths)[4]
  _, chosen = choose(words, file, prompt_length=limit)
  assert chosen.too_long == sum(length > limit for length in lengths) > 0
  with pytest.raises(ValueError, match="`count` must be at most the"):
    choose(words, file, prompt_length=limit, count=10)


def test_some_are_set_aside_and_asked(words, file):
  _, alone = choose(words, file, count=6, seed=2)
  _, chosen = choose(words, file, count=6, seed=2, held_out=3)
  # Those to train on are the same with and without.
  assert chosen.problems == alone.problems and len(chosen.evaluated) == 3
  assert not set(chosen.problems) & set(chosen.evaluated)
  assert str(chosen).endswith("; 3 are asked during the run")
  _, rest = choose(words, file, held_out=3)
  assert len(rest.problems) == 7
  assert {*rest.problems, *rest.evaluated} >= {*chosen.problems}
  for settings in (dict(count=8, held_out=3), dict(held_out=10)):
    with pytest.raises(ValueError, match=r"`count` \+ `held_out` must be at"):
      choose(words, file, **settings)


def test_what_is_like_a_trained_one_is_not_set_aside(words, tmp_path):
  records = [record(i, topic) for i, topic in enumerate(TOPICS[:4])]
  # The same but for capitals: whichever is trained on, the other is not asked.
  records += [
      r | {"id": r["id"] + "!", "problem": r["problem"].upper()}
      for r in records
  ]
  path = write(tmp_path / "twice.jsonl", records)
  _, chosen = choose(words, path, count=3, held_out=2, seed=1)
  name = lambda p: p.id.removesuffix("!")
  assert not {*map(name, chosen.problems)} & {*map(name, chosen.evaluated)}
  with pytest.raises(ValueError, match="`held_out` must be at most the [0-4] "):
    choose(words, path, count=3, held_out=5, seed=1)


def test_a_file_can_be_asked(words, file, tmp_path):
  asked = [record(0, "apples"), record(800, "zebras")]
  path = write(tmp_path / "asked.jsonl", asked)
  _, chosen = choose(words, file, evaluate_on=path)
  assert [p.id for p in chosen.problems] == list(TOPICS[1:])
  assert [p.id for p in chosen.evaluated] == ["apples", "zebras"]
  longest = max(len(r["problem"]) for r in asked)
  with pytest.raises(ValueError, match="`evaluate_on` must .* 1 of its 2 have"):
    # Short enough for others of the file, which are trained on.
    short = write(tmp_path / "short.jsonl", [{"problem": "1?", "answer": "1"}])
    choose(words, short, evaluate_on=path, prompt_length=longest - 1)


def test_a_set_with_a_name_has_a_size(words, file):
  with pytest.raises(ValueError, match="GSM8K must have 1319 problems, got 10"):
    choose(words, file, name="GSM8K")


@pytest.mark.parametrize(
    "settings, words_",
    [
        (dict(name="MATH"), "`name` must be one of AIME24"),
        (dict(seed=-1), "`seed` must be >= 0"),
        (dict(held_out=-1), "`held_out` must be >= 0"),
        (dict(held_out=1, evaluate_on="x"), "only one of `held_out` and"),
        (dict(prompt_length=0), "`prompt_length` must be from 1"),
        (dict(prompt_length=2000), "`prompt_length` must be from 1"),
        (dict(prompt_buckets=()), "`bucket_sizes` must be"),
    ],
)
def test_settings_that_cannot_be(settings, words_):
  with pytest.raises(ValueError, match=words_):
    math_task.ProblemsConfig(**settings)


def test_the_environment_cuts_epochs(words, file):
  template = chat.TEMPLATES["none"]
  never = lambda texts, answers: []
  for cut, epoch in ((True, 8), (False, 10)):
    config, chosen = choose(words, file, cut_epochs=cut)
    task = math_task.environment(
        config, words, template, chosen.problems, never, seed=0, batch=4
    )
    _, position = task.source(prompts.START, epoch)
    assert position == (1, 0)
  with pytest.raises(ValueError, match="`multiple_of` must be between 1 and"):
    config, chosen = choose(words, file)
    math_task.environment(
        config, words, template, chosen.problems, never, seed=0, batch=11
    )


def test_the_fingerprint_is_that_of_texts(words, file, tmp_path):
  template = chat.TEMPLATES["none"]
  make = lambda config, chosen, template=template: math_task.fingerprint(
      config, words, template, chosen.problems
  )
  first = make(*choose(words, file))
  records = [record(i, topic) for i, topic in enumerate(TOPICS)]
  moved = write(tmp_path / "moved.jsonl", records)
  assert make(*choose(words, moved)) == first
  assert make(*choose(words, file, cut_epochs=False)) != first
  assert make(*choose(words, file), chat.TEMPLATES["r1"]) != first
  config, chosen = choose(words, file)
  more = math_task.fingerprint(
      config, words, template, chosen.problems, chosen.problems[:2]
  )
  assert more.keys() - first.keys() == {
      "prompts and answers asked during the run"
  }
  assert first.items() <= more.items()
  records[3]["answer"] = "7"
  changed = write(tmp_path / "changed.jsonl", records)
  assert make(*choose(words, changed)) != first
