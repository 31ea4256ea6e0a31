"""Options: what a configuration says becomes endpoint, settings, prices."""

import pytest

from poise_jax.discovery.llm import asking, ledger
from poise_jax.discovery.llm import options as options_lib


def test_the_defaults_are_those_of_the_agents():
  options = options_lib.Options()
  assert options.settings == asking.Settings()
  assert options.prices is ledger.PRICES
  assert options.model in options.prices
  assert options.endpoint.base_url == ""


def test_what_is_set_arrives():
  options = options_lib.Options(
      model="m",
      base_url="http://127.0.0.1:1",
      project="p",
      temperature=0.5,
      thinking_level="low",
      max_output_tokens=9,
      prompt_price=1.0,
      output_price=3.0,
      timeout_seconds=7.0,
  )
  assert options.endpoint.base_url == "http://127.0.0.1:1"
  assert options.endpoint.project == "p"
  assert options.endpoint.timeout_seconds == 7.0
  settings = options.settings
  assert (settings.model, settings.temperature) == ("m", 0.5)
  assert (settings.thinking_level, settings.max_output_tokens) == ("low", 9)
  assert options.prices["m"] == ledger.Price(1.0, 3.0)


def test_a_server_of_ones_own_may_be_free():
  options = options_lib.Options(model="m", prompt_price=0.0, output_price=0.0)
  assert options.prices["m"] == ledger.Price(0.0, 0.0)
  assert options.prices.keys() == {*ledger.PRICES, "m"}


@pytest.mark.parametrize("given", ["prompt_price", "output_price"])
def test_one_price_alone_does_not_make_the_other_free(given):
  with pytest.raises(ValueError, match="output_price` must be given together"):
    assert options_lib.Options(**{given: 2.0}).prices


@pytest.mark.parametrize("wrong", [-1e-9, float("inf"), float("nan")])
@pytest.mark.parametrize("field", ["prompt_price", "output_price"])
def test_a_price_is_a_number_from_0(field, wrong):
  prices = {"prompt_price": 1.0, "output_price": 1.0} | {field: wrong}
  with pytest.raises(ValueError, match=f"`llm.{field}` must be a number of"):
    assert options_lib.Options(**prices).prices


def test_a_key_is_not_sent_in_the_clear():
  with pytest.raises(ValueError, match="`base_url` must start with https"):
    assert options_lib.Options(base_url="http://example.org").endpoint
