"""How a campaign asks a model: what a configuration may set."""

from collections.abc import Mapping
import dataclasses
import math

from poise_jax.discovery.llm import asking, client, ledger


@dataclasses.dataclass
class Options:
  """How a model is asked.

  Not frozen, for launch scripts to override fields.

  Attributes:
    model: its name.
    base_url: of a server that speaks the Gemini protocol; empty for Google's.
    project: of Google Cloud, for Vertex AI; empty for the Gemini API.
    location: of Vertex AI.
    budget_dollars: that a campaign may cost; after it, rules go on alone.
    prompt_price: dollars for a million tokens of prompts, and with
      `output_price` the price of the model, 0 for a server of one's own;
      None for that of the list.
    output_price: of replies and thoughts; given with `prompt_price` or not at
      all.
    temperature: of sampling.
    thinking_level: in the words of the model; empty for its default.
    max_output_tokens: of a reply, thoughts included.
    ideas: to choose from, for one candidate.
    repairs: of its code, at most.
    timeout_seconds: without a byte of an answer.
  """

  model: str = "gemini-3-pro-preview"
  base_url: str = ""
  project: str = ""
  location: str = "global"
  budget_dollars: float = 10.0
  prompt_price: float | None = None
  output_price: float | None = None
  temperature: float = 1.0
  thinking_level: str = ""
  max_output_tokens: int = 16_384
  ideas: int = 4
  repairs: int = 3
  timeout_seconds: float = 300.0

  @property
  def endpoint(self) -> client.Endpoint:
    """Where the model is."""
    return client.Endpoint(
        base_url=self.base_url,
        project=self.project,
        location=self.location,
        timeout_seconds=self.timeout_seconds,
    )

  @property
  def settings(self) -> asking.Settings:
    """What every request says."""
    return asking.Settings(
        model=self.model,
        temperature=self.temperature,
        thinking_level=self.thinking_level,
        max_output_tokens=self.max_output_tokens,
    )

  @property
  def prices(self) -> Mapping[str, ledger.Price]:
    """The list, with the price that is given here.

    Raises:
      ValueError: if only one of the two prices is given, or one is no number
        of dollars from 0.
    """
    prompt, output = self.prompt_price, self.output_price
    if prompt is None and output is None:
      return ledger.PRICES
    if prompt is None or output is None:
      raise ValueError(
          "`llm.prompt_price` and `llm.output_price` must be given together,"
          f" got {prompt} and {output}; give both, 0 for what is free, or"
          " neither for the price of the list"
      )
    for name, dollars in (("prompt_price", prompt), ("output_price", output)):
      if not 0 <= dollars < math.inf:
        raise ValueError(
            f"`llm.{name}` must be a number of dollars from 0, got {dollars}"
        )
    return {**ledger.PRICES, self.model: ledger.Price(prompt, output)}
