"""Who proposes and reflects in a campaign: rules, or a model with rules behind.

A campaign asks two functions. Each is given what would be done by rule, and
does that where no model is wanted, or none gives an answer. What was said to a
model and what it said goes into the archive; so does that it failed.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import tomllib
from typing import Any, NamedTuple, TypeVar

from poise_jax.archive import records
from poise_jax.candidates import known as known_lib
from poise_jax.candidates import verification
from poise_jax.discovery import admission
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import yardstick as yardsticks
from poise_jax.discovery.agents import analysis, banned, briefing, oracle, team
from poise_jax.discovery.evidence import shrinkage
from poise_jax.discovery.llm import asking, ledger, recording
from poise_jax.discovery.llm import exchange as exchange_lib
from poise_jax.discovery.llm import options as options_lib

_Result = TypeVar("_Result")

STAGE = "llm"  # of the decisions that keep exchanges and failures

Campaign = campaign_lib.Campaign
Note = tuple[str, dict[str, Any]]  # as `reflection.reflect` gives it
Propose = Callable[
    [Campaign, briefing.Task, Callable[[], admission.Draft]], admission.Draft
]
# (campaign, candidate, noise of a score, what counts, what the rules say) to
# what is noted.
Reflect = Callable[
    [
        Campaign,
        records.Candidate,
        shrinkage.Noise,
        yardsticks.Yardstick,
        Callable[[], Note],
    ],
    Note,
]
Exchange = Mapping[str, Any]


class Scientists(NamedTuple):
  """Whom a campaign asks.

  Attributes:
    propose: makes a draft for a task, given how to make one by rule.
    reflect: says what an admitted candidate showed, likewise.
    bill: what was spent so far, in words; empty if nothing can be.
  """

  propose: Propose
  reflect: Reflect
  bill: Callable[[], str]


def offline() -> Scientists:
  """Rules alone."""
  return Scientists(
      lambda campaign, task, by_rule: by_rule(),
      lambda campaign, candidate, noise, yardstick, by_rule: by_rule(),
      lambda: "",
  )


OFFLINE = offline()


def aided(
    ask: asking.Ask,
    heard: list[Exchange],
    *,
    ideas: int = 4,
    repairs: int = 3,
    bill: Callable[[], str] = lambda: "",
) -> Scientists:
  """A model that proposes and reflects, and rules where it fails.

  Only generated candidates are discussed with it. What it fails at is done by
  rule, also when the search is continued.

  Args:
    ask: answers.
    heard: exchanges that `ask` has made and nobody has archived; emptied.
    ideas: to choose from, for one candidate.
    repairs: of its code.
    bill: see `Scientists`.
  """

  def propose(
      campaign: Campaign,
      task: briefing.Task,
      by_rule: Callable[[], admission.Draft],
  ) -> admission.Draft:
    what = f"candidate {task.index}"

    def by_model() -> admission.Draft:
      campaign.progress.stage(what, "ask a model")
      context = briefing.context(campaign, task)
      proposal = team.propose(
          ask,
          context,
          _gate(campaign, context.parent.id),
          count=ideas,
          repairs=repairs,
          known=briefing.equations(campaign),
      )
      return _draft(proposal, task)

    return _tried(campaign, heard, what, by_model, by_rule)

  def reflect(
      campaign: Campaign,
      candidate: records.Candidate,
      noise: shrinkage.Noise,
      yardstick: yardsticks.Yardstick,
      by_rule: Callable[[], Note],
  ) -> Note:
    if candidate.role != "generated":
      return by_rule()
    what = f"reflection on {candidate.index}"

    def by_model() -> Note:
      campaign.progress.stage(candidate.name, "ask a model what it showed")
      return _analysed(ask, campaign, candidate, noise, yardstick)

    return _tried(campaign, heard, what, by_model, by_rule)

  return Scientists(propose, reflect, bill)


def _draft(proposal: team.Proposal, task: briefing.Task) -> admission.Draft:
  """A proposal as it is admitted, or kept as evidence."""
  breaches = banned.findings(
      task.worth.objective,
      proposal.mechanisms["tags"],
      proposal.verdict.nearest,
  )
  return admission.Draft(
      name=proposal.name,
      role="generated",
      generation=task.generation,
      parents=proposal.parents,
      source=proposal.source,
      mechanisms=proposal.mechanisms,
      rationale=proposal.rationale,
      objections=(*proposal.build.findings, *breaches),
  )


def _gate(campaign: Campaign, parent: str) -> oracle.Check:
  """The gate, as it is for a child of `parent`."""
  first = next(c for c in campaign.candidates if c.id == parent)
  return functools.partial(
      verification.verify,
      jail=campaign.jail,
      parent=first.fingerprint,
      known=known_lib.catalogue(),
      must_learn=True,
      group_size=campaign.laboratory.budget.train.group_size,
  )


def _analysed(
    ask: asking.Ask,
    campaign: Campaign,
    candidate: records.Candidate,
    noise: shrinkage.Noise,
    yardstick: yardsticks.Yardstick,
) -> Note:
  """What a model reads from the runs of the search, at any budget."""
  by_id = {c.id: c for c in campaign.candidates}
  parents = [by_id[known] for known in candidate.parents[:1]]
  return analysis.reflect(
      ask,
      briefing.evidence(campaign, candidate),
      briefing.evidence(campaign, parents[0]) if parents else None,
      briefing.evidence(campaign, campaign.candidates[0]),
      label=f"{candidate.index:03d}",
      rationale=candidate.rationale,
      findings=candidate.findings,
      prior_variance=noise.paired_variance,
      prior_dof=noise.dof,
      prefer=campaign.home.budget,
      yardstick=yardstick,
  )


def _tried(
    campaign: Campaign,
    heard: list[Exchange],
    what: str,
    by_model: Callable[[], _Result],
    by_rule: Callable[[], _Result],
) -> _Result:
  """Does something with a model, or by rule; archives what was said."""

  def answered() -> _Result:
    result = by_model()
    _archive(campaign, heard)
    return result

  def notify(notice: team.Notice) -> None:
    _archive(campaign, heard)
    told = {"notice": notice._asdict()}
    campaign.decide(STAGE, what, lambda: told)
    campaign.progress.stage(
        what,
        f"no model ({notice.kind}: {notice.message}); goes on by rule",
    )

  failed = {d.subject for d in campaign.archive.decisions(campaign.id, STAGE)}
  if what in failed:  # the search was cut off after that
    return by_rule()
  return team.or_offline(answered, by_rule, notify, what=what)


def _archive(campaign: Campaign, heard: list[Exchange]) -> None:
  """Stores what was said, each exchange by its name."""
  for exchange in heard:
    campaign.decide(
        STAGE, exchange["exchange"], lambda said=exchange: dict(said)
    )
  heard.clear()


@contextlib.contextmanager
def live(
    options: options_lib.Options, path: str | os.PathLike[str]
) -> Iterator[Scientists]:
  """A model at the end of a line, with a record and a budget.

  Args:
    options: model and bounds.
    path: of the transcript; what it holds is not paid for again.

  Raises:
    exchange.CallError: if there is no key.
    ValueError: if the price of the model is not known.
  """
  heard: list[Exchange] = []
  with team.live(
      options.endpoint,
      options.settings,
      path,
      budget=options.budget_dollars,
      prices=options.prices,
      note=heard.append,
  ) as line:
    yield aided(
        line.ask,
        heard,
        ideas=options.ideas,
        repairs=options.repairs,
        bill=lambda: _bill(line.ledger.balance, options),
    )


def _bill(balance: ledger.Balance, options: options_lib.Options) -> str:
  return (
      f"{options.model}: {balance.calls} calls,"
      f" ${ledger.dollars(balance.spent):.2f} spent, at most"
      f" ${ledger.dollars(balance.uncertain):.2f} more for calls whose end"
      f" was not seen, of ${options.budget_dollars:.2f}"
  )


def replay(
    options: options_lib.Options, path: str | os.PathLike[str]
) -> Scientists:
  """The transcript of a campaign, without a network.

  What it lacks ends the campaign with `exchange.MissError`.

  Args:
    options: those that it was recorded with.
    path: of the transcript.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no transcript.
  """
  heard: list[Exchange] = []
  ask = team.replayed(path, options.settings, note=heard.append)
  return aided(ask, heard, ideas=options.ideas, repairs=options.repairs)


def script(
    options: options_lib.Options, path: str | os.PathLike[str]
) -> Scientists:
  """Replies that somebody wrote, found by what each is for.

  Other than a transcript, it fits any machine: numbers in a question may
  differ. For demonstrations and tests; it is stored as what it is.

  Args:
    options: `ideas` and `repairs` count.
    path: of a TOML file with a table `replies`, label of a request -> reply.

  Raises:
    OSError: if there is no such file.
    ValueError: if it is no such script.
  """
  replies = _read_script(path)

  def send(request: exchange_lib.Request) -> exchange_lib.Reply:
    if request.label not in replies:
      raise exchange_lib.MissError(
          f"the script {os.fspath(path)!r} has no reply for {request.label!r};"
          " it fits one campaign only: restore the configuration that it was"
          " written for",
          request.digest,
          ("label",),
      )
    text = json.dumps(replies[request.label])
    return exchange_lib.Reply(text, exchange_lib.COMPLETE, None, "script")

  heard: list[Exchange] = []
  told = recording.witnessed(send, heard.append)
  settings = dataclasses.replace(options.settings, model="script")
  ask = asking.asker(told, settings)
  return aided(ask, heard, ideas=options.ideas, repairs=options.repairs)


def _read_script(path: str | os.PathLike[str]) -> Mapping[str, Any]:
  told = tomllib.loads(pathlib.Path(path).read_text("utf-8"))
  replies = told.get("replies")
  if not isinstance(replies, Mapping):
    raise ValueError(
        f"{os.fspath(path)!r} must have a table `replies`, label -> reply, got"
        f" {sorted(told)}"
    )
  return replies
