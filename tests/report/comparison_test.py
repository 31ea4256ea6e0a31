"""The page about two policies: whole, offline, and safe to open."""

import html.parser

import numpy as np

from poise_jax.evaluation import comparison as comparison_lib
from poise_jax.evaluation import paired_scores, results, statistics
from poise_jax.report import comparison

VOID = {"meta", "br"}
HOSTILE = (
    "</pre></div></details><script>alert(1)</script>"
    "<!-- \"'><img src=x onerror=alert(2)> &lt; ]]> \u2028 \ud800 </style"
)


class Reader(html.parser.HTMLParser):
  """Collects tags and their text; insists on proper nesting."""

  def __init__(self):
    super().__init__(convert_charrefs=True)
    self.open, self.tags, self.attributes = [], [], []
    self.text, self.elements = "", []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in VOID:
      self.open.append((tag, len(self.text)))

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    name, start = self.open.pop()
    assert name == tag
    self.elements.append((tag, self.text[start:]))

  def handle_data(self, data):
    self.text += data

  def find(self, tag):
    return [text for name, text in self.elements if name == tag]


def read(text):
  reader = Reader()
  reader.feed(text)
  reader.close()
  assert not reader.open
  return reader


def make(
    text="so it is 4", name="AMC", low=0.004, samples=1, metric="accuracy"
):
  """A comparison of one set with one flip."""
  interval = statistics.Interval(0.031, low, 0.059)
  score = paired_scores.Difference(
      0.25, 0.281, interval, "Tango", 0.01, "McNemar, exact", 0.022
  )
  wrong = results.Completion(text, 9, "0", "5", False, False, False)
  right = results.Completion(text, 7, "1", "4", True, True, True)
  flip = comparison_lib.Flip(text, text, text, True, (0, 3), wrong, right)
  found = comparison_lib.SetComparison(
      name, metric, 1.0, 83, 83, samples, score, 0.02,
      {"tokens": score}, (flip,), 5, np.array([1.0]),
  )  # fmt: skip
  return comparison_lib.Comparison(False, {name: found}, score)


MANIFEST = {"id": "0" * 64, "code": {"jax": "0.10.2"}}


def test_what_is_on_it():
  reader = read(comparison.render(make(), MANIFEST))
  claims = [text for text in reader.find("p") if "better" in text]
  assert claims == [
      "B better Overall by 3.1 [0.4, 5.9] (p = 0.010).",
      "B better on AMC by 3.1 [0.4, 5.9] (p = 0.020 corrected for 1 set).",
  ]
  assert any("+3.1 [0.4, 5.9]" in row for row in reader.find("tr"))
  (details,) = reader.find("details")
  assert "only B solved it" in details
  assert "A: wrong, cut off, no valid answer, 9 tokens" in details
  assert "B: right, 7 tokens" in details
  assert '"jax": "0.10.2"' in reader.find("code")[-1]
  assert set(reader.find("text")) == {
      "AMC",
      "Overall",
      "A better by 5.9",
      "B better by 5.9",
  }


def test_nothing_is_fetched_and_nothing_runs():
  reader = read(comparison.render(make(), MANIFEST))
  names = {name for name, _ in reader.attributes}
  assert not names & {"src", "href"}
  assert "script" not in reader.tags


def test_completions_are_only_text():
  plain = read(comparison.render(make(), MANIFEST))
  page = comparison.render(make(HOSTILE, HOSTILE), MANIFEST | {"x": HOSTILE})
  reader = read(page)
  assert reader.tags == plain.tags
  shown = HOSTILE.replace("\ud800", "?")
  assert reader.find("pre")[:3] == [shown] * 3
  assert not [name for name, _ in reader.attributes if name.startswith("on")]
  assert page.encode()


def test_without_interval_and_with_samples():
  found = make(samples=32, metric="pass_at_k")
  amc = found.sets["AMC"]
  nothing = statistics.Interval(0.0, None, None)
  score = amc.score._replace(interval=nothing, detectable=None)
  found = found._replace(sets={"AMC": amc._replace(score=score)}, overall=None)
  reader = read(comparison.render(found, MANIFEST))
  assert "0.0 [no interval]" in reader.text
  assert "pass@32" in reader.text
  assert "B: right, 7 tokens, 3 of 32 samples right" in reader.text


def test_equal_comparisons_give_equal_bytes():
  assert comparison.render(make(), MANIFEST) == comparison.render(
      make(), MANIFEST
  )


def test_a_browser_shows_it(tmp_path, browser):
  path = tmp_path / "comparison.html"
  path.write_text(comparison.render(make(HOSTILE), MANIFEST), "utf-8")
  shown = browser(path)
  # As the browser understood it: one folded problem, no script, no image.
  assert shown.count("<details>") == 1
  assert "<script" not in shown and "<img" not in shown
  assert shown.count("<circle") == 2
