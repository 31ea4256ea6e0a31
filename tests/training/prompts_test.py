"""Every problem once an epoch, and the same ones from a saved position."""

import collections
import json

import numpy as np
import pytest

from poise_jax.tasks import arithmetic
from poise_jax.training import prompts
from poise_jax.training.prompts import Position

WORDS = [f"problem {i}" for i in range(10)]


def take_all(source, counts, position=prompts.START):
  taken = []
  for count in counts:
    batch, position = source(position, count)
    taken += batch
  return taken, position


def draw(rng, count):
  return arithmetic.sample(
      rng, arithmetic.TRAINING_TIERS, count, arithmetic.Split.TRAIN
  )


def test_each_epoch_is_another_permutation_of_all():
  taken, position = take_all(prompts.epochs(WORDS, 0), [10, 10, 10])
  epochs = [taken[:10], taken[10:20], taken[20:]]
  assert all(sorted(e) == sorted(WORDS) for e in epochs)
  assert len({tuple(e) for e in [WORDS, *epochs]}) == 4
  assert position == Position(3, 0)


def test_seeds_give_other_orders_and_the_same_seed_the_same():
  first = [take_all(prompts.epochs(WORDS, s), [10])[0] for s in (0, 1, 0)]
  assert first[0] != first[1]
  assert first[0] == first[2]


def test_orders_are_what_they_were_when_this_was_written():
  # Saved runs go on with these: they must outlive versions of numpy.
  taken, _ = prompts.epochs(range(10), 7)(Position(3, 0), 10)
  assert taken == [9, 6, 3, 8, 1, 2, 0, 5, 7, 4]


def test_every_place_comes_first_equally_often():
  source = prompts.epochs(range(4), 0)
  first = [source(Position(e, 0), 1)[0][0] for e in range(2000)]
  counts = np.bincount(first, minlength=4)
  # Binomial(2000, 1/4): five standard deviations.
  assert np.all(np.abs(counts - 500) < 5 * np.sqrt(2000 * 3 / 16))


@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize(
    "counts", [[23], [10, 13], [4, 6, 13], [1] * 23, [0, 22, 0, 1]]
)
def test_to_take_k_then_m_is_to_take_both(counts, multiple_of):
  source = prompts.epochs(WORDS, 3, multiple_of=multiple_of)
  whole = take_all(prompts.epochs(WORDS, 3, multiple_of=multiple_of), [23])
  assert take_all(source, counts) == whole
  assert whole[1] == (Position(2, 3) if multiple_of == 1 else Position(2, 7))


def test_a_batch_goes_on_in_the_next_epoch():
  source = prompts.epochs(WORDS, 0)
  across, position = source(Position(0, 8), 4)
  assert across[:2] == source(prompts.START, 10)[0][8:]
  assert across[2:] == source(Position(1, 0), 2)[0]
  assert position == Position(1, 2)


def test_cut_epochs_leave_others_out_each_time_and_repeat_none():
  source = prompts.epochs(WORDS, 0, multiple_of=4)
  left_out = collections.Counter()
  position = prompts.START
  for epoch in range(50):
    epoch_problems = []
    for _ in range(2):
      batch, position = source(position, 4)
      epoch_problems += batch
    assert len(set(epoch_problems)) == 8
    assert position == Position(epoch + 1, 0)
    left_out.update(set(WORDS) - set(epoch_problems))
  assert set(left_out) == set(WORDS)


def test_resuming_reads_no_problem_before_the_position():
  read = []

  class Recorder(list):

    def __getitem__(self, i):
      read.append(i)
      return super().__getitem__(i)

  problems = Recorder(range(1000))
  batch, _ = prompts.epochs(problems, 0)(Position(10**6, 990), 5)
  assert read == batch
  assert len(batch) == 5


def test_a_position_survives_json():
  _, position = take_all(prompts.epochs(WORDS, 0), [7, 7])
  saved = json.loads(json.dumps(position))
  assert saved == [1, 4]
  assert Position(*saved) == position
  # Whatever restored the numbers, they come out plain.
  restored = Position(np.int64(1), np.array(4))
  batch, after = prompts.epochs(WORDS, 0)(restored, 1)
  assert batch == prompts.epochs(WORDS, 0)(position, 1)[0]
  assert json.dumps(after) == "[1, 5]"


def test_generated_batches_depend_on_seed_and_position_alone():
  source = prompts.generated(draw, 5)
  first, position = source(prompts.START, 8)
  second, after = source(position, 8)
  assert (position, after) == (Position(0, 1), Position(0, 2))
  assert first != second
  again, _ = prompts.generated(draw, 5)(Position(0, 1), 8)
  assert again == second
  other, _ = prompts.generated(draw, 6)(Position(0, 1), 8)
  assert other != second
  assert source(position, 0) == ([], position)


@pytest.mark.parametrize("seed, step", [(0, 0), (3, 7)])
def test_generated_arithmetic_is_what_training_always_drew(seed, step):
  rng = np.random.default_rng([31337, seed, step])
  batch, _ = prompts.generated(draw, seed)(Position(0, step), 6)
  assert batch == draw(rng, 6)


def test_steps_of_the_papers_recipe():
  size = prompts.epoch_size(5000, 256)
  assert size == 19 * 256
  assert prompts.steps(8, size, 256) == 152
  assert prompts.steps(8, prompts.epoch_size(5000), 256) == 156


@pytest.mark.parametrize("multiple_of", [1, 4])
def test_steps_are_how_often_a_batch_fits(multiple_of):
  source = prompts.epochs(WORDS, 0, multiple_of=multiple_of)
  steps = prompts.steps(3, prompts.epoch_size(10, multiple_of), 4)
  assert take_all(source, [4] * steps)[1] <= Position(3, 0)
  assert take_all(source, [4] * (steps + 1))[1] > Position(3, 0)


@pytest.mark.parametrize(
    "position, count, message",
    [
        (Position(0, 10), 1, "index below 10.*got 10.*begin at"),
        (Position(0, -1), 1, "must not be negative.*index -1"),
        (Position(-1, 0), 1, "must not be negative.*epoch -1"),
        (Position(0, 0), -1, "`count` must be at least 0, got -1"),
    ],
)
def test_positions_that_cannot_be(position, count, message):
  with pytest.raises(ValueError, match=message):
    prompts.epochs(WORDS, 0)(position, count)


def test_a_position_of_numbers_that_are_not_whole():
  with pytest.raises(TypeError, match="two whole numbers.*0.5"):
    prompts.epochs(WORDS, 0)(Position(0, 0.5), 1)


def test_a_position_of_another_kind_of_source():
  with pytest.raises(ValueError, match="epoch 0.*got 2.*saved with a set"):
    prompts.generated(draw, 0)(Position(2, 3), 4)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: prompts.epochs([], 0), "at least one problem, got none"),
        (lambda: prompts.epochs(WORDS, -1), "`seed` must be at least 0"),
        (lambda: prompts.generated(draw, -1), "`seed` must be at least 0"),
        (
            lambda: prompts.epochs(WORDS, 0, multiple_of=11),
            "between 1 and the 10 problems.*got 11",
        ),
        (lambda: prompts.epochs(WORDS, 0, multiple_of=0), "got 0"),
        (lambda: prompts.steps(1, 10, 11), "at most the 10 problems"),
        (lambda: prompts.steps(0, 10, 1), "at least 1, got 0, 10 and 1"),
    ],
)
def test_sources_that_cannot_be(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_draw_that_gives_too_few():
  source = prompts.generated(lambda rng, count: [1, 2], 0)
  with pytest.raises(ValueError, match="as many problems as asked, 3, got 2"):
    source(prompts.START, 3)
