"""What should be said aloud of the way in which a policy is asked."""

from collections.abc import Sequence

from poise_jax.evaluation import running

# Tokens that open and end turns, by template.
_TURNS = {"qwen_math": ("<|im_start|>", "<|im_end|>")}


def notes(
    policy: running.Policy,
    settings: running.Settings,
    asked: Sequence[running.Asked],
) -> list[str]:
  """Warnings, in sentences; none where all is usual.

  A template whose turns the tokenizer does not know is read as plain text by
  the policy, which was hardly trained on it: the score is of that, too.

  Args:
    policy: that will be asked.
    settings: of the run.
    asked: its sets; those with a template of their own do not matter.
  """
  names = [a.scored.name for a in asked if a.scored.template is None]
  tokenizer = policy.tokenizer.hugging_face
  vocabulary = tokenizer.get_vocab() if names else {}
  turns = _TURNS.get(settings.template, ()) if names else ()
  unknown = [turn for turn in turns if turn not in vocabulary]
  if not unknown:
    return []
  own = "--template=tokenizer for the chat template that it brings"
  other = "--template=r1 or --template=none, for it brings no chat template"
  return [
      f"the template {settings.template} marks turns by {' and '.join(turns)},"
      f" but the tokenizer has no token {' or '.join(unknown)}: this policy"
      " reads them as plain text and may not end its turn. Give"
      f" {own if tokenizer.chat_template else other}, or"
      f" --template={settings.template} is part of what is measured on"
      f" {', '.join(names)}."
  ]
