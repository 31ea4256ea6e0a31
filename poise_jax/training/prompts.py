"""Where the problems of a run come from, at a position that can be saved.

A `Source` is a pure function of a position and a count. All that a checkpoint
needs is the position, two integers; to resume is to call the source with it:
nothing is replayed and nothing is skipped over.

    source = prompts.epochs(problems, seed)
    batch, position = source(prompts.START, 256)

For the places of the problems instead of the problems (a bucket of
`training.history` is one), use `epochs(range(len(problems)), seed)`.
"""

from collections.abc import Callable, Sequence
import functools
import operator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Problem = TypeVar("Problem")

# First words of the seeds, so that streams of one run's seed are unrelated.
_DRAWS = 31337
_ORDERS = 31338


class Position(NamedTuple):
  """How far a run has come in its source; `json` writes it as a pair.

  Attributes:
    epoch: passes over all problems that are complete.
    index: problems taken in this epoch; for `generated`, batches drawn.
  """

  epoch: int
  index: int


START = Position(0, 0)

# The next `count` problems from a position, and the position after them.
Source = Callable[[Position, int], tuple[Sequence[Problem], Position]]


def _checked(position: Position, count: int) -> tuple[int, int, int]:
  """Epoch, index and count as plain integers, for JSON's sake."""
  try:
    epoch, index = map(operator.index, position)
    count = operator.index(count)
  except (TypeError, ValueError) as e:
    raise TypeError(
        "`position` must be two whole numbers (epoch, index) and `count` one,"
        f" got {position!r} and {count!r}; pass the Position that was saved"
    ) from e
  if epoch < 0 or index < 0:
    raise ValueError(
        "`position` must not be negative,"
        f" got epoch {epoch}, index {index}; a run begins at (0, 0)"
    )
  if count < 0:
    raise ValueError(f"`count` must be at least 0, got {count}")
  return epoch, index, count


def _check_seed(seed: int) -> None:
  """A seed is one word of a `numpy.random.SeedSequence`."""
  if seed < 0:
    raise ValueError(f"`seed` must be at least 0, got {seed}")


def epoch_size(problems: int, multiple_of: int = 1) -> int:
  """Problems in one epoch, when epochs are cut to a multiple of something.

  Args:
    problems: all there are.
    multiple_of: as in `epochs`.

  Raises:
    ValueError: if that leaves nothing.
  """
  if problems < 1:
    raise ValueError(
        "`problems` must hold at least one problem, got none; check the file"
        " and the filters it was loaded with"
    )
  if not 1 <= multiple_of <= problems:
    raise ValueError(
        f"`multiple_of` must be between 1 and the {problems} problems there"
        f" are, got {multiple_of}; lower it or add problems"
    )
  return problems // multiple_of * multiple_of


def steps(epochs: int, size: int, batch: int) -> int:
  """Whole batches in a number of epochs; the last one may leave a rest.

  `steps(8, epoch_size(5000, 256), 256)` is the 152 of the paper's recipe;
  without cutting epochs, `steps(8, 5000, 256)` is 156.

  Args:
    epochs: passes over the problems.
    size: problems in one epoch, see `epoch_size`.
    batch: problems in one step.

  Raises:
    ValueError: if that is not even one step.
  """
  if min(epochs, size, batch) < 1:
    raise ValueError(
        "`epochs`, `size` and `batch` must be at least 1, got"
        f" {epochs}, {size} and {batch}"
    )
  if epochs * size < batch:
    raise ValueError(
        f"`batch` must be at most the {epochs * size} problems of all epochs,"
        f" got {batch}; lower `batch` or raise `epochs`"
    )
  return epochs * size // batch


def _order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
  """A permutation of range(length) that depends on its arguments alone.

  Sorts raw words: numpy promises those for ever, but not what
  `Generator.permutation` makes of them, and runs are resumed across versions.
  """
  words = np.random.PCG64(np.random.SeedSequence([_ORDERS, seed, epoch]))
  return np.argsort(words.random_raw(length), kind="stable")


def epochs(
    problems: Sequence[Problem], seed: int, *, multiple_of: int = 1
) -> Source[Problem]:
  """Problems in epochs, each a new permutation of all of them.

  By default a batch that reaches the end of an epoch goes on in the next one,
  so that every problem is trained on equally often; the price is that such a
  batch may hold a problem twice, once from either epoch. With `multiple_of`
  set to the batch size, as in the paper's recipe of floor(5000 / 256) steps an
  epoch, each epoch ends early instead, without the last problems of its
  permutation, which are others every time. Dynamic sampling draws as much as
  it needs, so the end of an epoch means little to it: leave the default.

  Either way, no problem comes twice in one epoch, and to take k problems and
  then m is to take k + m. A count above an epoch's size spans epochs.

  Args:
    problems: any sequence; not copied, must not change.
    seed: with the number of the epoch, decides its order.
    multiple_of: cuts each epoch to a multiple of this many problems.

  Returns:
    A source; the orders come from (seed, epoch) alone, so starting anywhere
    costs one permutation.

  Raises:
    ValueError: if there are no problems, or fewer than `multiple_of`. The
      source raises it for a position outside of its epoch.
  """
  size = epoch_size(len(problems), multiple_of)
  _check_seed(seed)

  @functools.lru_cache(maxsize=1)
  def order(epoch: int) -> NDArray[np.int64]:
    return _order(seed, epoch, len(problems))

  def take(
      position: Position, count: int
  ) -> tuple[Sequence[Problem], Position]:
    epoch, index, count = _checked(position, count)
    if index >= size:
      raise ValueError(
          f"`position` must have an index below {size}, the size of an epoch,"
          f" got {index}; it was saved with other problems or another"
          " `multiple_of`: use those again, or begin at (epoch, 0)"
      )
    taken: list[Problem] = []
    while len(taken) < count:
      end = min(index + count - len(taken), size)
      taken += [problems[i] for i in order(epoch)[index:end].tolist()]
      epoch, index = (epoch, end) if end < size else (epoch + 1, 0)
    return taken, Position(epoch, index)

  return take


def generated(
    draw: Callable[[np.random.Generator, int], Sequence[Problem]], seed: int
) -> Source[Problem]:
  """Problems made from random numbers, without end.

  There are no epochs: `epoch` stays 0 and `index` counts the batches drawn, so
  that without dynamic sampling it is the step. A batch depends on (seed,
  position, count) alone. Unlike with `epochs`, to take k and then m is not to
  take k + m.

  Args:
    draw: makes a number of problems from a generator.
    seed: with the position, decides the state of the generator.

  Returns:
    A source.

  Raises:
    ValueError: if `seed` is negative. The source raises it for a position
      with an epoch, or if `draw` does not give as many as it was asked for.
  """
  _check_seed(seed)

  def take(
      position: Position, count: int
  ) -> tuple[Sequence[Problem], Position]:
    epoch, index, count = _checked(position, count)
    if epoch:
      raise ValueError(
          "`position` must have epoch 0, for generated problems have no epochs,"
          f" got {epoch}; it was saved with a set of problems: use that again,"
          " or begin at (0, 0)"
      )
    if not count:
      return [], Position(0, index)
    words = np.random.SeedSequence([_DRAWS, seed, index])
    drawn = draw(np.random.Generator(np.random.PCG64(words)), count)
    if len(drawn) != count:
      raise ValueError(
          f"`draw` must give as many problems as asked, {count}, got"
          f" {len(drawn)}"
      )
    return drawn, Position(0, index + 1)

  return take
