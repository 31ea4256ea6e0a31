"""Untrusted loss source in, verified compiled artifact out.

In the order in which a source passes through:

  verification  the whole gate in one function: text in, verdict out
  findings      what a check has to say about a source
  limits        what a source may consume
  scope         the names that a source may use
  syntax        the allow-list over the parsed text
  loops         how often the loops of a source run
  jail          the parent's end of the single-use process
  wire          the frames between the two ends
  inmate        the child's end
  lockdown      what the child gives up before it reads the source
  tracing       source to exported module, inside the child
  returns       what init and loss must return
  explain       what a source raises, in words that do not vary
  artifact      the bytes that come back, and the Algorithm made from them
  screen        what an exported module may contain
  probes        small batches that reach every branch of a loss
  contract      what every loss must do on them
"""
