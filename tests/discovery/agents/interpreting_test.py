"""Directives read by a model: at once, mended, given up, unmeasurable."""

import json

import pytest

from poise_jax.discovery import directives
from poise_jax.discovery.agents import interpreting
from poise_jax.discovery.llm import asking, exchange

TEXT = "Readers are on phones, so brevity is king; sums2 has to stay solid."
METRICS = ("overall", "response_length", "accuracy/sums2")
GOOD = {
    "terms": [
        {
            "clause": "Readers are on phones, so brevity is king",
            "metric": "response_length",
            "direction": "min",
        }
    ],
    "constraints": [
        {
            "clause": "sums2 has to stay solid",
            "metric": "accuracy/sums2",
            "op": ">=",
            "bound": 0.98,
            "relative": True,
        }
    ],
}
UNKNOWN = json.loads(json.dumps(GOOD).replace("response_length", "brevity"))
DROPPED = {"terms": GOOD["terms"]}


def _asked(*replies):
  """Reads the directive with these replies; gives the requests too."""
  requests = []

  def send(request):
    requests.append(request)
    text = replies[min(len(requests), len(replies)) - 1]
    return exchange.Reply(text, exchange.COMPLETE, None)

  ask = asking.asker(send, asking.Settings(model="m"))
  read = lambda: interpreting.interpret(ask, TEXT, "no 'phones'", METRICS)
  return read, requests


def test_a_model_reads_what_is_asked_for():
  read, requests = _asked(json.dumps(GOOD))
  reading = read()
  assert directives.explain(reading)[1].endswith(
      "keep accuracy/sums2 >= 0.98 of the root's"
  )
  assert reading.text == TEXT
  (request,) = requests
  assert request.label == "directive"
  assert "- accuracy/sums2: part of the problems" in request.system
  assert "train_seconds" not in request.system  # which nobody records
  question = request.messages[0].text
  assert TEXT in question and "no 'phones'" in question
  assert set(request.schema["properties"]) == {
      "terms", "constraints", "bans", "budget", "unmeasurable"
  }  # fmt: skip


@pytest.mark.parametrize(
    "bad, fault",
    [
        ("[]", "should be an object"),
        (json.dumps({"metric": "overall"}), "metric: Extra inputs"),
        (json.dumps(UNKNOWN), "`metric` must be one of accuracy/sums2"),
        (json.dumps(DROPPED), "got none with 'sums2 stay solid'"),
    ],
)
def test_a_faulty_form_is_mended(bad, fault):
  read, requests = _asked(bad, json.dumps(GOOD))
  assert read().objective.metrics == ("response_length", "accuracy/sums2")
  _, last = requests
  assert fault in last.messages[-1].text
  read, requests = _asked(bad)
  with pytest.raises(exchange.AnswerError, match="no usable reply"):
    read()
  assert len(requests) == 3


def test_what_the_model_cannot_place_is_an_error():
  form = DROPPED | {"unmeasurable": ["sums2 has to stay solid"]}
  read, requests = _asked(json.dumps(form))
  message = "cannot read 'sums2 has to stay solid'.* accuracy/sums2, overall"
  with pytest.raises(directives.DirectiveError, match=message):
    read()
  assert len(requests) == 1
