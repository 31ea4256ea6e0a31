"""The process that does the algebra: a keeper, and an inmate it can kill.

The keeper has read math-verify but never computes. It forks the inmate, hands
it one request at a time, and kills it at the limit; the next one is forked in
milliseconds, where a new process would have to import for a second. Requests
and replies are lines of JSON on the keeper's standard input and output:

  {"gold": .., "answer": .., "seconds": .., "wall": ..}
    ->  {"same": true | false | null}

null is for a request that did not end in time, or ended its inmate. `seconds`
are of the processor's time that the inmate itself takes, which the system
measures: on a busy machine a verdict comes later and is hardly ever another.
`wall` is for what waits without computing. The first line out is {"ready": true}. The
keeper ends when its input does.
"""

import ctypes
import faulthandler
import gc
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any, BinaryIO, NoReturn
import warnings

from poise_jax.tasks import answer_algebra, answer_equivalence

_MEMORY = 4 << 30  # bytes of address space; a power tower takes all there is
_RECURSION = 3000  # deep enough for formulas, not for the C stack's end
_PR_SET_PDEATHSIG = 1
_WARM_UP = (
    (r"\frac{\sqrt{5}-1}{2}", r"\frac{-1+\sqrt{5}}{2}"),
    (r"x^2+2x+1", r"(x+1)^2"),
    (r"(0,9) \cup (9,36)", r"(0,9)\cup (9,35)"),
    (r"5x-7y=4", r"-7y+5x=4"),
    (r"\sin\frac{\pi}{6}", r"\log_2 8"),
    ("x > 5", "x < 5"),
)


def judge(gold: str, answer: str) -> bool:
  """Whether two answers mean the same, by algebra where it is needed.

  May take for ever; a formula that cannot be computed is no right answer.
  """
  try:
    return bool(
        answer_equivalence.equivalent(gold, answer, answer_algebra.same)
    )
  # Algebra systems raise all there is on strings that are not mathematics.
  except Exception:
    return False


def _reply(out: int, message: dict[str, Any]) -> None:
  data = json.dumps(message).encode() + b"\n"
  while data:
    data = data[os.write(out, data) :]


def _bound_itself() -> None:
  """Makes the inmate end with its keeper, and within its memory."""
  signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends it
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  if sys.platform == "linux":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _serve(requests: BinaryIO, out: int) -> NoReturn:
  """The inmate: judges until it is killed."""
  _bound_itself()
  sys.setrecursionlimit(_RECURSION)
  for line in requests:
    request = json.loads(line)
    # Both end it even if the keeper is gone, and whatever holds the interpreter.
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])
    faulthandler.dump_traceback_later(
        request["wall"] + 2.0, exit=True, file=sys.__stderr__
    )
    same = judge(request["gold"], request["answer"])
    faulthandler.cancel_dump_traceback_later()
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    _reply(out, {"same": same})
  os._exit(0)


class _Inmate:
  """A forked process that judges."""

  def __init__(self) -> None:
    inner_in, self._requests = os.pipe()
    self.replies, inner_out = os.pipe()
    self._pid = os.fork()
    if not self._pid:
      try:
        os.close(self._requests)
        os.close(self.replies)
        os.close(0)
        os.close(1)
        _serve(os.fdopen(inner_in, "rb"), inner_out)
      finally:
        os._exit(1)
    os.close(inner_in)
    os.close(inner_out)

  def ask(self, line: bytes) -> None:
    """Sends a request."""
    while line:
      line = line[os.write(self._requests, line) :]

  def kill(self) -> None:
    """Ends and reaps it."""
    os.kill(self._pid, signal.SIGKILL)
    os.waitpid(self._pid, 0)
    os.close(self._requests)
    os.close(self.replies)


def _await(inmate: _Inmate, seconds: float) -> bytes | None:
  """The inmate's reply; None if it is late, dead, or nobody waits for it."""
  poller = select.poll()
  poller.register(inmate.replies, select.POLLIN)
  poller.register(0, 0)  # reports only that the other end has hung up
  end = time.monotonic() + seconds
  data = b""
  while (left := end - time.monotonic()) > 0:
    ready = dict(poller.poll(1e3 * left))
    if ready.get(0):
      return None
    if inmate.replies in ready:
      part = os.read(inmate.replies, 1 << 16)
      data += part
      if not part:
        return None
      if data.endswith(b"\n"):
        return data
  return None


def main() -> None:
  """The keeper: reads requests until there are no more."""
  # What ends a job is for the caller, who may still want verdicts; the inmate
  # ignores them too.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  warnings.simplefilter("ignore")
  for gold, answer in _WARM_UP:
    judge(gold, answer)
  gc.freeze()  # forks share what has been imported
  inmate = _Inmate()
  try:
    _reply(1, {"ready": True})
    for line in sys.stdin.buffer:
      try:
        inmate.ask(line)
        reply = _await(inmate, json.loads(line)["wall"])
      except BrokenPipeError:
        reply = None
      if reply is None:
        inmate.kill()
        inmate = _Inmate()
      _reply(1, json.loads(reply) if reply else {"same": None})
  except BrokenPipeError:
    pass  # nobody is there any more
  finally:
    inmate.kill()
