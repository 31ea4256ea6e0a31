"""A model on this machine that keeps books, and what it may do wrong.

For tests of whole campaigns: what the server counted is what a ledger has to
say in the end.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import signal

from poise_jax.algorithms import catalog

_PATH = pathlib.Path(__file__).parents[1] / "discovery" / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

KEY = "AIza-secret-key-0123456789"
SOURCES = [catalog.source(n) for n in ("dr_grpo", "gspo", "rloo", "cispo")]

_LOSS = """
HPARAMS = {"clip_eps": 0.2}

def init(hparams):
  return {}

def loss(hparams, state, batch):
"""
# What a source may try: to read the key, and to hold up the search.
HOSTILE = (
    f"import os\n{_LOSS}  raise ValueError(str(dict(os.environ)))\n",
    f"{_LOSS}  raise ValueError(open('/proc/self/environ').read())\n",
    f"{_LOSS}  return sum(sum(range(9**9)) for _ in range(9**9)), state, {{}}\n",
)


def _descendants(pid):
  """Processes below one, by what the kernel says of each."""
  parents = {}
  for entry in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
      status = (entry / "stat").read_text("ascii", "replace")
      parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
  found, last = set(), {pid}
  while last:
    last = {child for child, parent in parents.items() if parent in last}
    found |= last
  return found


class Model:
  """Says the same whenever it is asked the same, and keeps its own books.

  Attributes:
    whole: (text, counts) of replies that were sent to the end.
    lost: calls whose end nobody at the other end can have seen as such.
    harmed: calls that something was wrong with.
    watched: id of the process that asks.
    environments: of its children.
  """

  def __init__(self, faults=(), kills=()):
    """Starts well.

    Args:
      faults: for two calls of five, until none is left.
      kills: numbers of calls that are the last thing their process does.
    """
    self._agents = gemini.Agents(
        sources=SOURCES,
        oracles=SOURCES,
        research=[gemini.ideas(f"way_{i}", f"other_{i}") for i in "abcdefgh"],
    )
    self.faults = list(faults)
    self._kills = set(kills)
    self._said = {}
    self.whole, self.environments = [], []
    self.calls = self.lost = self.harmed = self.watched = 0

  def answer(self, request, count):
    self.calls += 1
    for pid in _descendants(self.watched) if self.watched else ():
      with contextlib.suppress(OSError):
        environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        self.environments.append(environment)
    if count in self._kills:
      self.lost += 1
      os.kill(self.watched, signal.SIGKILL)
      return gemini.CUT
    kind = gemini.asked_for(request)
    # Two calls of five, while there are faults that fit.
    if count % 5 in (1, 3):
      fits = kind in ("code", "oracle")
      fault = next((f for f in self.faults if fits or f not in HOSTILE), None)
      if fault is not None:
        self.faults.remove(fault)
        self.harmed += 1
        return self._harmed(fault, request)
    return self._spoken(self._good(kind, request))

  def _good(self, kind, request):
    asked = json.dumps(request["contents"])
    if asked not in self._said:
      self._said[asked] = json.dumps(self._agents(kind))
    return self._said[asked]

  def _spoken(self, text, finish="STOP"):
    """A reply that is paid for; no two cost the same."""
    i = len(self.whole)
    counts = {
        "prompt": 1000 + 7 * i,
        "output": 100 + i,
        "thoughts": 3 * i,
        "cached": 5 * i,
    }
    self.whole.append((text, counts))
    return gemini.ok(text, finish=finish, **counts)

  def _harmed(self, fault, request):
    good = lambda: self._good(gemini.asked_for(request), request)
    if fault in HOSTILE:
      # As a server could, that knows the key of whoever asks.
      return self._spoken(json.dumps({"source": fault, "notes": KEY}))
    if fault in ("cut off", "garbled", "too late"):
      self.lost += 1
    return {
        "late": lambda: (1.0, self._spoken(good())),
        "too late": lambda: (7.0, gemini.ok(good())),
        "429": lambda: gemini.error(
            429, "RESOURCE_EXHAUSTED", headers={"retry-after": "1"}
        ),
        "500": lambda: gemini.error(
            500, "INTERNAL", message=f"no luck with key {KEY}"
        ),
        "cut off": lambda: gemini.CUT,
        "garbled": lambda: (200, '{"candidates": [{"con', {}),
        "cut short": lambda: self._spoken('{"a', finish="MAX_TOKENS"),
        "no JSON": lambda: self._spoken('Sure! Here it is: {"'),
        "wrong schema": lambda: self._spoken('{"answer": 42}'),
    }[fault]()


# Sources first, as they wait for somebody who asks for one.
FAULTS = (
    *HOSTILE,
    *("wrong schema", "429", "too late", "no JSON", "500", "cut off", "late"),
    *("garbled", "cut short"),
)
