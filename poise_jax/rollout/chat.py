r"""What stands around a problem when a policy is asked to solve it.

`qwen_math` is the prompt of Qwen2.5-Math, as its model card prints it: the
system's one sentence, and turns in ChatML. `r1` is in the manner of
DeepSeek-R1-Zero (arXiv 2501.12948, table 1): a conversation in plain text whose
answer has two parts, in tags. It opens the first tag, and asks for the final
answer in a `\boxed{}`, where graders look. `none` is the problem as it is.
`tokenizer` is the chat template that comes with the policy.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
import traceback
from typing import Any, NamedTuple

from poise_jax.rollout import text_tokenizer

Messages = list[dict[str, str]]

# Some templates print today's date; prompts must not change over night.
_DATE = "26 Jul 2024"
_SAMPLE = "What is 1 + 1?"


class Template(NamedTuple):
  """A way to ask.

  Attributes:
    name: for messages.
    render: problem to prompt. Call it through `prompt`, which checks it.
    complete: whether the text has all special tokens that it needs; else the
      tokenizer puts its beginning-of-text before it.
  """

  name: str
  render: Callable[[str], str]
  complete: bool = False


def chatml(messages: Messages) -> str:
  """Turns in ChatML, and the opening of the assistant's next one."""
  turns = [
      f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
      for message in messages
  ]
  return "".join(turns) + "<|im_start|>assistant\n"


def qwen_math(problem: str) -> str:
  """The prompt of Qwen2.5-Math; needs no template in the tokenizer."""
  system = (
      "Please reason step by step, and put your final answer within \\boxed{}."
  )
  return chatml(_messages(problem, system))


def r1(problem: str) -> str:
  """A conversation in plain text, thoughts and answer in tags."""
  return (
      "The following is a conversation between a User, who poses a problem, and"
      " an Assistant, who solves it. The Assistant first works through the"
      " problem, writing its thoughts between <think> and </think>, and then"
      " gives its reply between <answer> and </answer>, with the final answer"
      f" inside \\boxed{{}}.\nUser: {problem}\nAssistant: <think>"
  )


def none(problem: str) -> str:
  """The problem as it is."""
  return problem


# Those that are the same for every policy.
TEMPLATES: Mapping[str, Template] = {
    function.__name__: Template(function.__name__, function)
    for function in (qwen_math, r1, none)
}


def of_tokenizer(
    tokenizer: text_tokenizer.TextTokenizer, system: str = ""
) -> Template:
  """The chat template that came with the policy.

  Args:
    tokenizer: of the policy.
    system: goes first, if not empty. Otherwise the template's own default
      stands, and few ask for an answer that a grader can find.

  Raises:
    ValueError: if the tokenizer has no template, or it fails.
  """
  try:
    source = tokenizer.hugging_face.get_chat_template()
  except ValueError as e:
    raise ValueError(
        f"the tokenizer in {tokenizer.directory!r} must have a chat template, a"
        f" single one or one named `default`: {e}. Choose another template or"
        " pass a .jinja file"
    ) from e
  name = f"the chat template in {tokenizer.directory!r}"
  return _of_source(source, name, tokenizer, system)


def of_file(
    path: str | pathlib.Path,
    tokenizer: text_tokenizer.TextTokenizer,
    system: str = "",
) -> Template:
  """A template of one's own.

  Args:
    path: a Jinja template, UTF-8. It sees what chat templates see in
      `transformers` (`messages`, `add_generation_prompt`, `bos_token` and so
      on), and the text of the `problem`, so that `Q: {{ problem }}` is one.
      Beginning-of-text is not added: write `{{ bos_token }}` where wanted.
    tokenizer: of the policy.
    system: first of the `messages`, if not empty.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not UTF-8, or fails on a simple problem; with its line.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"there must be a template at {str(path)!r}")
  try:
    source = path.read_bytes().decode()
  except UnicodeDecodeError as e:
    raise ValueError(
        f"{path}: not UTF-8 (byte 0x{e.object[e.start]:02x} at {e.start}); save"
        " the template as UTF-8"
    ) from e
  return _of_source(source, str(path), tokenizer, system)


def choose(name: str, tokenizer: text_tokenizer.TextTokenizer) -> Template:
  """A template by what a user says: a name or the path of a .jinja file.

  Raises:
    FileNotFoundError: as `of_file`.
    ValueError: if there is no such template, or it fails.
  """
  if name in TEMPLATES:
    return TEMPLATES[name]
  if name == "tokenizer":
    return of_tokenizer(tokenizer)
  if name.endswith((".jinja", ".jinja2", ".j2")):
    return of_file(name, tokenizer)
  raise ValueError(
      f"the template must be one of {', '.join(TEMPLATES)}, tokenizer, or the"
      f" path of a .jinja file, got {name!r}"
  )


def prompt(template: Template, problem: str) -> str:
  """A problem with its template around it.

  Raises:
    ValueError: if the problem is blank, the template fails, or the problem is
      not in what it gives.
  """
  if not problem.strip():
    raise ValueError(f"a problem must not be blank, got {problem!r}; remove it")
  text = template.render(problem)
  # Many templates strip what they are given.
  if problem.strip() not in text:
    raise ValueError(
        f"{template.name} must keep the text of the problem, it lost"
        f" {_start(problem)}; let it print `messages` or `problem` unchanged"
    )
  return text


def encode(
    template: Template,
    tokenizer: text_tokenizer.TextTokenizer,
    problems: Sequence[str],
) -> list[list[int]]:
  """Tokens of the prompts of problems, of different lengths.

  Raises:
    ValueError: as `prompt`; or if a problem has half of a surrogate pair, or
      within a template the text of a special token, which would end its turn.
  """
  texts = [prompt(template, problem) for problem in problems]
  for problem, text in zip(problems, texts, strict=True):
    special = next((t for t in tokenizer.special_tokens if t in problem), None)
    if special is not None and text != problem:
      raise ValueError(
          f"a problem must not contain the special token {special!r}, which"
          f" {template.name} would take for its own, got {_start(problem)};"
          " remove it"
      )
  return tokenizer.encode(texts, beginning=not template.complete)


def _messages(problem: str, system: str = "") -> Messages:
  first = [{"role": "system", "content": system}] if system else []
  return [*first, {"role": "user", "content": problem}]


def _start(problem: str) -> str:
  return repr(problem if len(problem) < 60 else problem[:57] + "...")


def _of_source(
    source: str,
    name: str,
    tokenizer: text_tokenizer.TextTokenizer,
    system: str,
) -> Template:
  """A template of Jinja, tried on a simple problem."""

  def render(problem: str) -> str:
    try:
      return tokenizer.hugging_face.apply_chat_template(
          _messages(problem, system),
          chat_template=source,
          tokenize=False,
          add_generation_prompt=True,
          date_string=_DATE,
          problem=problem,
      )
    except Exception as e:  # A template may raise anything.
      raise ValueError(
          f"{name}, {_place(e)}: {type(e).__name__}: {e}; correct the template"
      ) from e

  template = Template(name, render, complete=True)
  prompt(template, _SAMPLE)
  return template


def _place(error: Any) -> str:
  """The line of the template where an error came from."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
  line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
  return "in an unknown line" if line is None else f"line {line}"
