"""Prompts written out by hand, and templates that cannot be used."""

import json

import pytest
import tokenizers

from poise_jax.rollout import chat, text_tokenizer

BEGIN, END = "<s>", "</s>"
PROBLEM = "Find $x$:\n  \\[x^{2} = 4 < \"5\" & 'x' > 0\\]  {{ x }} {% if %}"
INSTRUCTION = "Please reason step by step, and put your final answer within"

# As Qwen's: turns in ChatML, with an instruction of its own.
CHATML = r"""
{%- if messages[0]['role'] == 'system' %}
{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
{{- '<|im_start|>system\nThink.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
# As Llama's: its own beginning, stripped contents, and the date.
DATED = """{{- bos_token }}
{%- if not date_string is defined %}
{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{{- date_string + ': ' + (messages[0]['content'] | trim) }}"""


def write(directory, template=None):
  """Writes a tokenizer of single bytes that begins texts with `<s>`."""
  directory.mkdir(exist_ok=True)
  symbols = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens([BEGIN, END])
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single=f"{BEGIN} $A", special_tokens=[(BEGIN, 256)]
  )
  tokenizer.save(str(directory / "tokenizer.json"))
  config = {
      "tokenizer_class": "PreTrainedTokenizerFast",
      "bos_token": BEGIN,
      "eos_token": END,
      "chat_template": template,
  }
  (directory / "tokenizer_config.json").write_text(json.dumps(config))
  return text_tokenizer.load(directory)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
  return write(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
  return write(tmp_path_factory.mktemp("chatty"), CHATML)


@pytest.fixture
def template_file(tmp_path):
  def write_template(source, name="mine.jinja"):
    path = tmp_path / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return str(path)

  return write_template


def test_the_prompt_of_qwen_math(words):
  template = chat.choose("qwen_math", words)
  assert chat.prompt(template, PROBLEM) == (
      f"<|im_start|>system\n{INSTRUCTION} \\boxed{{}}.<|im_end|>\n"
      f"<|im_start|>user\n{PROBLEM}<|im_end|>\n"
      "<|im_start|>assistant\n"
  )


def test_chatml_is_what_a_template_makes_of_it(chatty):
  system = f"{INSTRUCTION} \\boxed{{}}."
  template = chat.of_tokenizer(chatty, system)
  assert chat.prompt(template, PROBLEM) == chat.qwen_math(PROBLEM)


def test_the_prompt_of_r1(words):
  text = chat.prompt(chat.choose("r1", words), PROBLEM)
  before, after = text.split(PROBLEM)
  assert before.endswith("\nUser: ")
  assert after == "\nAssistant: <think>"
  for part in ("<think>", "</think>", "<answer>", "</answer>", "\\boxed{}"):
    assert part in before


def test_the_problem_as_it_is(words):
  assert chat.prompt(chat.choose("none", words), PROBLEM) == PROBLEM


def test_the_template_of_the_tokenizer(chatty):
  template = chat.choose("tokenizer", chatty)
  assert chat.prompt(template, PROBLEM) == (
      "<|im_start|>system\nThink.<|im_end|>\n"
      f"<|im_start|>user\n{PROBLEM}<|im_end|>\n"
      "<|im_start|>assistant\n"
  )


def test_the_date_stands_still(words, template_file):
  template = chat.choose(template_file(DATED), words)
  assert chat.prompt(template, " 1+1? ") == "<s>26 Jul 2024: 1+1?"


def test_a_file_may_use_the_problem_alone(words, template_file):
  path = template_file("Q: {{ problem }}\nA:", "qa.j2")
  assert chat.prompt(chat.choose(path, words), "1+1?") == "Q: 1+1?\nA:"


def test_a_text_begins_once(words, template_file):
  one, two = words.encode(["1", "2"], beginning=False)
  plain = chat.encode(chat.TEMPLATES["none"], words, ["12", "1"])
  assert plain == [[256, *one, *two], [256, *one]]
  said = chat.of_file(template_file("{{ bos_token }}{{ problem }}"), words)
  assert chat.encode(said, words, ["12"]) == plain[:1]
  unsaid = chat.of_file(template_file("{{ problem }}"), words)
  assert chat.encode(unsaid, words, ["12"]) == [[*one, *two]]


def test_no_template(words, tmp_path):
  with pytest.raises(ValueError, match="must have a chat template.*jinja file"):
    chat.choose("tokenizer", words)
  with pytest.raises(
      ValueError, match="qwen_math, r1, none, tokenizer.*'qwen'"
  ):
    chat.choose("qwen", words)
  with pytest.raises(FileNotFoundError, match="a template at .*mine.jinja"):
    chat.choose(str(tmp_path / "mine.jinja"), words)


def test_several_templates_without_a_default(tmp_path):
  templates = [{"name": "a", "template": "x"}, {"name": "b", "template": "y"}]
  with pytest.raises(ValueError, match=r"named `default`.*\['a', 'b'\]"):
    chat.of_tokenizer(write(tmp_path, templates))
  templates[1] = {"name": "default", "template": "{{ messages[0].content }}!"}
  template = chat.of_tokenizer(write(tmp_path, templates))
  assert chat.prompt(template, "1+1?") == "1+1?!"


@pytest.mark.parametrize(
    "source, message",
    [
        (
            "{{ problem }}\n\n{% for %}",
            "mine.jinja, line 3: TemplateSyntaxError",
        ),
        ("{{ problem }}\n{% if x %}", "line 2: TemplateSyntaxError"),
        ("\n{{ problem.a.b }}", "line 2: UndefinedError.*correct"),
        ("\n\n{{ problem + 1 }}", "line 3: TypeError"),
        ("{{ problem }}\n{{ 1 / 0 }}", "line 2: ZeroDivisionError"),
        ("{{ raise_exception('no user') }}", "line 1: TemplateError: no user"),
        ("\n{{ problem.__class__.mro() }}", "line 2: SecurityError"),
        ("{{ nothing }}", "must keep the text of the problem.*1 [+] 1"),
        ("", "must keep the text"),
        ("{{ messages[1].content }}", "line 1: UndefinedError"),
        (b"{{ problem }}\xff", "mine.jinja: not UTF-8.*0xff at 13"),
    ],
)
def test_templates_that_fail(words, template_file, source, message):
  with pytest.raises(ValueError, match=message):
    chat.choose(template_file(source), words)


@pytest.mark.parametrize(
    "source",
    ["{{ problem | upper }}", "{{ problem[:20] }}", "{{ problem | e }}"],
)
def test_templates_that_change_some_problems(words, template_file, source):
  source = "What is 1 + 1?" + source
  template = chat.of_file(template_file(source), words)
  with pytest.raises(ValueError, match="must keep the text.*it lost 'Find"):
    chat.prompt(template, PROBLEM)


@pytest.mark.parametrize("problem", ["", " \n"])
def test_blank_problems(words, problem):
  for template in chat.TEMPLATES.values():
    with pytest.raises(ValueError, match="must not be blank"):
      chat.encode(template, words, ["1+1?", problem])


def test_special_tokens_in_a_problem(words):
  problem = "Is $a</s>b$ a tag?"
  with pytest.raises(ValueError, match="special token '</s>'.*qwen_math.*tag"):
    chat.encode(chat.TEMPLATES["qwen_math"], words, ["1+1?", problem])
  # Without a template, they are what they say.
  (ids,) = chat.encode(chat.TEMPLATES["none"], words, [problem])
  assert ids.count(257) == 1


def test_half_of_a_surrogate_pair(chatty):
  for name in (*chat.TEMPLATES, "tokenizer"):
    with pytest.raises(ValueError, match="half of a surrogate pair"):
      chat.encode(chat.choose(name, chatty), chatty, ["a\udfff"])
