"""How a campaign asks a model: what a configuration may set."""

from collections.abc import Mapping
import dataclasses

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
      `output_price` the price of a model that is not listed; 0 for the list.
    output_price: of replies and thoughts.
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
  prompt_price: float = 0.0
  output_price: float = 0.0
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
    """The list, with the price that is given here."""
    if not (self.prompt_price or self.output_price):
      return ledger.PRICES
    own = ledger.Price(self.prompt_price, self.output_price)
    return {**ledger.PRICES, self.model: own}
