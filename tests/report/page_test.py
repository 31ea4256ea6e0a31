import dataclasses
import html.parser
import json
import stat

import pytest

from poise_jax.archive import records, store
from poise_jax.report import page

VOID = {"meta", "br"}
HOSTILE = (
    "</code></pre></details><script>alert(1)</script>"
    "<!-- \"'><img src=x onerror=alert(2)> &lt; ]]> \u2028 </script"
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
      self.open.append((tag, dict(attrs), len(self.text)))

  def handle_endtag(self, tag):
    name, attrs, start = self.open.pop()
    assert name == tag
    self.elements.append((tag, attrs, self.text[start:]))

  def handle_data(self, data):
    self.text += data

  def find(self, tag, **attrs):
    """Texts of the elements `tag` with these attributes."""
    return [
        text
        for name, found, text in self.elements
        if name == tag and attrs.items() <= found.items()
    ]


def read(text):
  reader = Reader()
  reader.feed(text)
  reader.close()
  assert not reader.open
  return reader


def figures(reader):
  return {
      attrs["data-figure"]: json.loads(text)
      for tag, attrs, text in reader.elements
      if tag == "script" and "data-figure" in attrs
  }


@pytest.fixture
def written(archive, tmp_path):
  return page.write(archive, "c0ffee", tmp_path / "new" / "out")


def test_the_page_and_its_script_work_offline(written):
  assert sorted(p.name for p in written.parent.iterdir()) == [
      "index.html",
      "plotly.min.js",
  ]
  reader = read(written.read_text(encoding="utf-8"))
  linked = [v for k, v in reader.attributes if k in ("src", "href")]
  assert "plotly.min.js" in linked
  assert {v for v in linked if not v.startswith("#")} == {"plotly.min.js"}
  assert "Plotly" in (written.parent / "plotly.min.js").read_text()[:200_000]


def test_claims_carry_their_budget_and_base(written):
  reader = read(written.read_text())
  claims = reader.find("p", **{"class": "claim"})
  assert claims[0].startswith("Not established: ahead by 11.0")
  assert "Budget quick, base policy 0123456789ab" in claims[0]
  assert any("zero_gradient" in claim for claim in claims)


def test_the_table_ranks_all_candidates(written):
  reader = read(written.read_text())
  rows = reader.find("tr")
  names = [row for row in rows if row[:1].isdigit()]
  assert [name[1:5] for name in names] == [
      "bett",
      "root",
      "wors",
      "zero",
      "brok",
      "expl",
      "wait",
  ]
  assert "52.045.2 to 58.82scoredgenerated0.5200.26010.5root" in names[0]
  assert "broken0rejectedgenerated" in names[4]


def test_every_figure_has_its_place(written):
  reader = read(written.read_text())
  found = figures(reader)
  assert set(found) == {"bars", "tree", "frontier", "curves"}
  for name, figure in found.items():
    assert reader.find("div", id=name) == [""]
    assert figure["data"]


def test_curves_start_with_the_best_and_the_root(make, campaign, candidates):
  overalls = {0: 10.0, 2: 40.0, 3: 30.0, 5: 20.0, 6: 15.0}
  runs = [make.evaluation(i, 0, score) for i, score in overalls.items()]
  reader = read(page.render(campaign, candidates, runs, []))
  traces = figures(reader)["curves"]["data"]
  shown = {t["legendgroup"] for t in traces if t["visible"] is True}
  assert shown == {f"c0ffee-{i:03d}" for i in (2, 3, 5, 0)}


def test_each_candidate_has_its_details(written, candidates):
  reader = read(written.read_text())
  for candidate in candidates:
    (text,) = reader.find("details", id=candidate.id)
    assert candidate.source in text
    assert candidate.rationale in text
    assert candidate.source_sha256 in text
  assert "It rose." in reader.find("details", id="c0ffee-002")[0]
  broken = reader.find("details", id="c0ffee-004")[0]
  assert "check: finite; message: NaN in the gradient" in broken


def test_what_a_loss_is_and_its_numbers_are_shown(make, campaign):
  candidate = make.candidate(
      0,
      "rediscovered",
      nearest=({"name": "grpo", "words": "equals grpo <b>"},),
      intrinsic={"flops": 1234.5, "bits": None},
  )
  twin = make.candidate(1, "copy", accepted=False, twin_of=candidate.id)
  text = page.render(campaign, [candidate, twin], [], [])
  assert "As a loss: equals grpo &lt;b&gt;." in text
  assert "<th>flops</th><td>1234</td>" in text and "<th>bits</th>" not in text
  assert "1 twin" in text


def test_text_from_an_archive_is_only_text(
    make, campaign, candidates, evaluations
):
  plain = read(page.render(campaign, candidates, evaluations, []))
  hostile = [
      dataclasses.replace(
          candidate,
          name=candidate.name + HOSTILE,
          source=HOSTILE,
          rationale=HOSTILE,
          source_sha256=HOSTILE,
          findings=({HOSTILE: HOSTILE},),
      )
      for candidate in candidates
  ]
  runs = [
      dataclasses.replace(
          run,
          metrics=run.metrics | {f"accuracy/{HOSTILE}": 0.5},
          key={"base": HOSTILE},
      )
      for run in evaluations
  ]
  reader = read(
      page.render(
          make.campaign(name=HOSTILE, config={"budget": "quick", HOSTILE: 1}),
          hostile,
          runs,
          [
              records.Reflection(
                  "c0ffee-002", HOSTILE, {}, make.campaign().created_at
              )
          ],
      )
  )
  for tag in ("script", "img", "details", "pre"):
    assert reader.tags.count(tag) == plain.tags.count(tag)
  assert not [name for name, _ in reader.attributes if name.startswith("on")]
  assert reader.find("code") == [HOSTILE] * len(candidates)
  assert reader.find("title") == [f"Campaign {HOSTILE}"]
  assert set(figures(reader)) == set(figures(plain))


def _directive(make, text, lines):
  data = {"text": text, "reader": "the offline grammar", "lines": lines}
  time = make.campaign().created_at
  return records.Decision("c0ffee", "directive", "reading", data, time)


def test_a_directive_is_shown_as_it_was_read(
    make, campaign, candidates, evaluations
):
  objective = {"terms": [{"metric": "response_length", "direction": "min"}]}
  steered = dataclasses.replace(
      campaign, config=campaign.config | {"objective": objective}
  )
  plain = page.render(campaign, candidates, evaluations, [])
  assert "Directive" not in plain and "objective" not in plain
  decisions = [
      _directive(make, "shorter <b>", ["shorter <b>  lower it", HOSTILE]),
      records.Decision("c0ffee", "race", "r", {}, campaign.created_at),
  ]
  text = page.render(steered, candidates, evaluations, [], decisions)
  reader = read(text)
  assert reader.find("pre", id="directive") == [
      f"shorter <b>  lower it\n{HOSTILE}"
  ]
  shown = reader.find("p", **{"class": "claim"})
  assert shown[0] == "shorter <b>"
  assert shown[1].startswith("The objective of this campaign is not Overall")
  assert "ahead by 11.0 in Overall" in shown[2]
  assert "in points of the objective" in text.partition("Confirmed</h2>")[2]
  assert "As the offline grammar read it:" in reader.text
  assert text.index("Directive</h2>") < text.index("Result</h2>")


def test_a_campaign_that_has_just_begun(campaign):
  reader = read(page.render(campaign, [], [], []))
  assert "The root is not scored" in reader.text
  assert "0 candidates" in reader.text


def test_writing_replaces_whole_files(archive, tmp_path):
  page.write(archive, "c0ffee", tmp_path)
  (tmp_path / "index.html").write_text("old")
  path = page.write(archive, "c0ffee", tmp_path)
  assert path.read_text().endswith("</html>\n")
  assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
  assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_unknown_campaign_writes_nothing(archive, tmp_path):
  with pytest.raises(store.ArchiveError, match="nothing is not in"):
    page.write(archive, "nothing", tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_a_browser_draws_the_figures(written, browser):
  shown = browser(written)
  assert shown.count("main-svg") >= 4
