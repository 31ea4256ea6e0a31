"""Untrusted loss source in, verified compiled artifact out.

In the order in which a source passes through:

  verification  the whole gate in one function: text in, verdict out
  findings      what a check has to say about a source
  limits        what a source may consume
  scope         the names that a source may use
  syntax        the allow-list over the parsed text
  loops         how often the loops of a source run
  jail          the parent's end: warm children, each used for one source
  answers       what comes back from the children, made sense of
  child         one jailed process, and why it gave no answer
  wire          the frames between the two ends
  inmate        the child's end
  lockdown      what the child gives up before it reads the source
  tracing       source to exported module, inside the child
  returns       what init and loss must return
  explain       what a source raises, in words that do not vary
  artifact      the bytes that come back, and the Algorithm made from them
  renewal       artifacts that a newer jax cannot read, made again
  examination   what is done with an artifact, in a child of its own
  scale         the program of a loss at the sizes of a training run
  screen        what an exported module may contain
  probes        small batches that reach every branch of a loss
  contract      what every loss must do on them
  invariance    what must change nothing: padding, order, junk
  bandit        the smallest problem: whether it learns
  declared      what a source claims of its loss, checked
  fingerprint   what a loss does: its gradients on the probes
  normal_form   algebra on terms: one form for equal ones
  reading       a traced program, read into terms
  canonical     one text for all ways of writing a loss, and its hashes
  intrinsic     numbers about a loss, without training
  known         the fingerprints of the catalogue
  rediscovery   the nearest known algorithms
"""

import typing

if typing.TYPE_CHECKING:
  from poise_jax.candidates import jail as jail_lib
  from poise_jax.candidates import verification


def verify(
    source: typing.Any,
    parent: "verification.Verdict | None" = None,
    *,
    jail: "jail_lib.Jail | None" = None,
) -> "verification.Verdict":
  """Says whether a loss may be trained, what it does and what it resembles.

    with jail.Jail() as warm:
      parent = candidates.verify(text, jail=warm)
      child = candidates.verify(other, parent, jail=warm)

  See `verification.verify`, which has more to choose.

  Args:
    source: the text of a loss; anything else is refused.
    parent: what was said of the loss that its NEUTRAL leads back to.
    jail: with warm children it takes a second; one for this source alone,
      which takes seconds, if left out.

  Returns:
    The verdict. No source makes this raise. Known algorithms are beside it
    unless their fingerprints have to be taken first, see `known.catalogue`.

  Raises:
    jail.JailError: if this machine cannot run a jail.
  """
  # Here, because the children of the jail import this package too.
  from poise_jax.candidates import jail as jail_lib
  from poise_jax.candidates import known, verification

  if jail is None:
    with jail_lib.Jail() as cold:
      return verify(source, parent, jail=cold)
  return verification.verify(
      source,
      jail,
      parent=None if parent is None else parent.fingerprint,
      known=known.ready(),
  )
