"""Sentences as a person would read them, written down before they were run.

A term is `+metric` or `-metric` with its weight if that is not 1; a limit of
the root ends in `r`; a ban starts with `!`. Without anything to improve the
reading is completed by `+overall`.
"""

import hypothesis
from hypothesis import strategies
import pytest

from poise_jax.discovery import directives

READINGS = """
shorter answers without losing accuracy; keep it simple | -response_length -description_length overall>=0.98r
Maximise accuracy. | +overall
maximize overall | +overall
Raise the accuracy on MATH-500. | +accuracy/MATH500
improve pass@k on AIME24 and AIME25 | +pass_at_k/AIME24 +pass_at_k/AIME25
Boost pass@32 on AIME 2024 | +pass_at_k/AIME24
Get better at AIME25 | +pass_at_k/AIME25
better Minerva accuracy, please | +accuracy/Minerva
Do well on OlympiadBench | +accuracy/OlympiadBench
improve pass@1 on AMC | +pass_at_1/AMC
higher accuracy on mixed3 | +accuracy/mixed3
raise pass_at_k/products4 | +pass_at_k/products4
Reduce response length by 30% without hurting accuracy | response_length<=0.7r overall>=0.98r
Cut the answers' length by a third | response_length<=0.6667r
Make the answers 20 percent shorter | response_length<=0.8r
halve the response length but keep accuracy | response_length<=0.5r overall>=0.98r
answers no longer than 300 tokens | response_length<=300
Keep responses under 200 tokens. | response_length<=200
Responses should be at most 1.5k tokens long | response_length<=1500
at most 256 tokens per answer | response_length<=256
don't let answers get longer | response_length<=1.02r
shorter answers with no loss at all in accuracy | -response_length overall>=1r
shorter answers, strictly without losing accuracy | -response_length overall>=1r
shorten the chains of thought while accuracy stays the same | -response_length overall>=0.98r
Concise answers, but not at the cost of accuracy | -response_length overall>=0.98r
Less verbose answers, as long as accuracy does not drop | -response_length overall>=0.98r
shorter responses, losing at most 2% of accuracy | -response_length overall>=0.98r
Answers as short as possible; accuracy may drop by up to 1% | -response_length overall>=0.99r
avoid long answers | -response_length
answers are too long | -response_length
accuracy of at least 60% | overall>=60
keep the accuracy above 55 | overall>=55
at least 80% on MATH-500 | accuracy/MATH500>=0.8
pass@k on AIME24 must not fall below 0.4 | pass_at_k/AIME24>=0.4
Raise accuracy by at least 5 % | overall>=1.05r
accuracy no worse than the baseline | overall>=0.98r
faster training | -train_seconds
Speed up training by 25% | train_seconds<=0.75r
train twice as fast | train_seconds<=0.5r
training at most 10% slower | train_seconds<=1.1r
training time under 2 minutes | train_seconds<=120
each run should take no more than 90 seconds | train_seconds<=90
more accurate and no slower | +overall train_seconds<=1.02r
keep training fast | -train_seconds
a simpler loss | -description_length
Simplify the algorithm without hurting performance | -description_length overall>=0.98r
no more complicated than the root | description_length<=1r
Description length below 4000 bits | description_length<=4000
Don't let entropy collapse. | entropy>=0.5r
avoid entropy collapse while raising accuracy | +overall entropy>=0.5r
keep entropy above 0.3 nats | entropy>=0.3
Hold entropy steady | entropy>=0.98r entropy<=1.02r
more exploration | +entropy
keep KL below 0.1 | kl<=0.1
limit the KL to the reference to at most 0.05 nats | kl<=0.05
Stay close to the reference policy | -kl
don't increase KL | kl<=1.02r
stable training | -kl
held-out perplexity must not rise by more than 5% | heldout_perplexity<=1.05r
lower the held-out perplexity | -heldout_perplexity
the model must not forget | heldout_perplexity<=1.02r
keep perplexity within 3% of the root | heldout_perplexity<=1.03r
Raise the valid rate to 95% | valid_rate>=0.95
fewer unparsable answers | +valid_rate
fewer flops of the loss | -flops
use fewer tokens in total | -tokens
at most 20% more flops | flops<=1.2r
Do not use length penalties | !length
maximise accuracy; do not use length penalties or dual clipping | +overall !length !clip=dual
Raise accuracy without a KL penalty | +overall !kl
avoid dual clipping and entropy bonuses | !clip=dual !entropy
length penalties are forbidden | !length
no CISPO, no clip-higher | !clip=cispo !clip=clip_higher
raise accuracy and reduce response length, accuracy being twice as important | +overall*2 -response_length
Mainly accuracy and a little brevity | +overall*2 -response_length*0.5
Accuracy is twice as important as speed | +overall*2 -train_seconds
mostly raise accuracy, slightly shorten answers | +overall*2 -response_length*0.5
MAXIMISE ACCURACY!!! KEEP IT SIMPLE!!! | +overall -description_length
shroter anwsers withuot lossing acuracy | -response_length overall>=0.98r
minimze respnse lenght, mantain accurcay | -response_length overall>=0.98r
I'd like the model's answers to be shorter, please. | -response_length
We want higher accuracy, lower KL and faster training | +overall -kl -train_seconds
Accuracy and entropy should go up | +overall +entropy
maximise accuracy subject to response length <= 300 and KL < 0.2 | +overall response_length<=300 kl<=0.2
accuracy >= 60%, entropy >= 0.5 | overall>=60 entropy>=0.5
raise accuracy but not response length | +overall response_length<=1.02r
don't lower accuracy or raise KL | overall>=0.98r kl<=1.02r
without losing accuracy or entropy, shorten the answers | -response_length overall>=0.98r entropy>=0.98r
prioritise accuracy over length | +overall*2 -response_length
accuracy at least that of GRPO | overall>=1r
shorten answers to 70% of the root's length | response_length<=0.7r
error rate no more than the root's | overall>=1r
prefer accuracy to brevity | +overall*2 -response_length
we prefer brevity to simplicity | -response_length*2 -description_length
raise accuracy while keeping the error rate on AMC below 30% | +overall accuracy/AMC>=0.7
shorter answers unless accuracy falls by 2% | -response_length overall>=0.98r
raise accuracy unless KL exceeds 0.1 | +overall kl<=0.1
if accuracy does not fall, shorten answers | -response_length overall>=0.98r
error rate under 20% and invalid rate below 5% | overall>=80 valid_rate>=0.95
cut length 3x, keep 95% valid | response_length<=0.3333r valid_rate>=0.95
"""

BUDGETS = [
    ("maximise accuracy in at most 2 hours", (7200.0, None, None)),
    ("no more than 32 candidates", (None, 32, None)),
    ("Raise accuracy. Spend up to $5.", (None, None, 5.0)),
    ("shorter answers; budget: 90 minutes, 20 candidates, 2.50 dollars",
     (5400.0, 20, 2.5)),
    ("finish within half an hour and try at most a dozen candidates",
     (1800.0, 12, None)),
    ("the whole search should cost less than 10 USD", (None, None, 10.0)),
]  # fmt: skip

# With a part of what the message has to say.
REFUSED = [
    ("make it better", "better"),
    ("more creative answers", "creative"),
    ("funnier answers without losing accuracy", "funnier"),
    ("improve entropy", "raise or lower"),
    ("raise pass@k", "AIME24"),
    ("better on AIME", "AIME24 or AIME25"),
    ("raise accuracy on GSM1000", "MATH500"),
    ("cheaper", "flops"),
    ("response length", "raise or lower"),
    ("shorter answers, longer answers", "contradict"),
    ("at most 300 tokens", "response_length"),
    ("use length penalties", "banned"),
    ("don't use magic", "magic"),
    ("accuracy by 5 points more", "root"),
    ("answers under 200 words", "tokens"),
    ("KL below 0.1 seconds", "nats"),
    ("spend at most 5 euros", "euros"),
    ("accuracy of at least 300%", "100"),
    ("improve the quality", "quality"),
    ("reduce latency", "latency"),
    ("do not maximise nothing", "nothing"),
    ("shorter answers; also be nice to users", "nice"),
    ("keep entropy between 0.2 and 0.1", "between"),
    ("KL at least 0.5 and at most 0.4", "possible together"),
    ("", "nothing"),
    ("please", "please"),
    ("?!", "nothing"),
    ("\u6700\u77ed", "character"),
    ("at most 2 bananas", "bananas"),
    ("reduce memory by 20%", "memory"),
    ("less compute", "tokens"),
    ("smaller model", "not measured"),
    ("pass@8 on AIME24", "k = 32"),
    ("if entropy rises, lower KL", "condition"),
    ("raise entropy when KL falls", "condition"),
    ("accuracy should not fall, but 1% is fine", "of which metric"),
    ("accuracy should not fall, except for 1%", "exception"),
    ("no length penalties, unless accuracy falls", "unless"),
    ("unless accuracy falls, shorten answers", "unless"),
    ("KL must not rise unless entropy falls", "unless"),
]


def written(reading):
  """A reading in the notation of the table."""
  made = set()
  objective = reading.objective
  for term in objective.terms:
    weight = "" if term.weight == 1 else f"*{term.weight:g}"
    made.add(("+" if term.direction == "max" else "-") + term.metric + weight)
  for limit in objective.constraints:
    ending = "r" if limit.relative else ""
    made.add(f"{limit.metric}{limit.op}{limit.bound:.4g}{ending}")
  return made | {f"!{ban}" for ban in objective.bans}


def _rows():
  for line in READINGS.strip().splitlines():
    text, _, expected = line.rpartition(" | ")
    yield pytest.param(text, expected, id=text)


@pytest.mark.parametrize("text, expected", list(_rows()))
def test_sentences_read_as_a_person_would(text, expected):
  wanted = set(expected.split())
  if not any(word[0] in "+-" for word in wanted):
    wanted.add("+overall")
  assert written(directives.parse(text)) == wanted


@pytest.mark.parametrize("text, budget", BUDGETS)
def test_what_a_campaign_may_spend(text, budget):
  assert directives.parse(text).budget == directives.Budget(*budget)


@pytest.mark.parametrize("text, message", REFUSED)
def test_what_cannot_be_read_is_refused_usefully(text, message):
  with pytest.raises(directives.DirectiveError) as caught:
    directives.read(text)
  assert message.lower() in str(caught.value).lower()


def test_refusals_name_the_clause_and_what_can_be_measured():
  with pytest.raises(directives.DirectiveError) as caught:
    directives.read("shorter answers; improve entropy")
  message = str(caught.value)
  assert "'improve entropy'" in message and "shorter" not in message
  assert "heldout_perplexity" in message and "AIME24" in message
  assert isinstance(caught.value, ValueError)


def test_every_clause_is_printed_back():
  reading = directives.parse(
      "shorter anwsers without losing accuracy; no dual clip; at most 2 hours"
  )
  assert directives.explain(reading) == [
      "shorter anwsers          minimise response_length, weight 1",
      "without losing accuracy  keep overall >= 0.98 of the root's",
      "no dual clip             do not use clip=dual",
      "at most 2 hours          spend at most 7200 seconds",
      "read 'anwsers' as 'answers'",
  ]
  assert directives.explain(reading.objective) == [
      "minimise response_length, weight 1",
      "keep overall >= 0.98 of the root's",
      "do not use clip=dual",
  ]


def test_what_was_not_said_is_printed_too():
  lines = directives.explain(directives.parse("KL below 0.1"))
  assert lines[-1] == "(not said)    maximise overall, weight 1"


def test_a_reading_says_what_is_measured_where_a_name_does_not():
  lines = directives.explain(directives.parse("don't forget; fewer flops"))
  assert lines == [
      "don't forget  keep heldout_perplexity <= 1.02 of the root's (perplexity"
      " of worked solutions of held-out problems of the scored sets, 1 or more;"
      " of no other text)",
      "fewer flops   minimise flops, weight 1 (floating-point operations of the"
      " loss and its gradient on a small probe; not of training)",
  ]


def test_importance_is_applied_to_other_clauses():
  reading = directives.parse(
      "raise entropy; cut the tokens; entropy is three times as important"
      " as tokens"
  )
  assert written(reading) == {"+entropy*3", "-tokens"}


def test_reading_is_the_objective_and_repeats():
  text = "shorter answers without losing accuracy; keep it simple"
  assert directives.read(text) == directives.parse(text).objective
  assert directives.parse(text) == directives.parse(text)


_WORDS = strategies.sampled_from(
    "shorter answers accuracy not without % 30 at most or and , ; keep KL on"
    " AIME24 twice as important 2 hours than the root $ loss pass@k of too may"
    " length penalties avoid up to mainly ( ) -5% 1e9 weight raise lower".split()
)


def _reads_or_refuses(text):
  try:
    directives.explain(directives.parse(text))
  except directives.DirectiveError as error:
    assert len(str(error)) < 2000


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@hypothesis.given(strategies.text(max_size=80))
def test_any_text_is_read_or_refused(text):
  _reads_or_refuses(text)


@hypothesis.settings(max_examples=400, deadline=None, derandomize=True)
@hypothesis.given(strategies.lists(_WORDS, max_size=14))
def test_any_words_are_read_or_refused(words):
  _reads_or_refuses(" ".join(words))


@pytest.mark.slow
@hypothesis.settings(max_examples=20_000, deadline=None)
@hypothesis.given(strategies.lists(_WORDS, max_size=20))
def test_many_words_are_read_or_refused(words):
  _reads_or_refuses(" ".join(words))


@pytest.mark.parametrize(
    "text",
    [
        "and " * 1000,
        "a" * 4000,
        "without " * 500,
        "1" * 4000,
        "1,111" * 800,
        "accuracy and " * 300,
        "shortr " * 570,
        "pass@ " * 600,
        ";" * 4000,
        "\x00" * 4000,
        "-" * 4000,
        "no more than " * 300,
        "x" * 100_000,
    ],
)
def test_long_and_hostile_texts_end(text):
  _reads_or_refuses(text)
