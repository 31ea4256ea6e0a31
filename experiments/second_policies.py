"""Makes the other base policies: of the second task, and to confirm on.

  python experiments/second_policies.py --recipe=carryless --out=DIR

Writes a Hugging Face directory; what is shipped in
`poise_jax/models/embedded_policies` was made this way:

  carryless          carry-less arithmetic
  carryless_second   other gaps in the tables, more checking, worse format
  arithmetic_second  chained arithmetic: the embedded policy, taught on, then
                     other styles, worked solutions as likely on all prompts

The first two take some 4 minutes of one core, the last one 1 minute. On
carry-less arithmetic the policy first imitates a teacher until it is as unsure
of products, then one that is less sure of the same products; so little depends
on when to stop. The second policy of chained arithmetic shares its first skill
with the embedded one: what is confirmed on it holds for other styles and
another level of skill, not for another architecture. Nothing is written unless
what was measured leaves room for reinforcement learning: see the bands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import json
import pathlib
from typing import NamedTuple

from absl import app, flags
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from poise_jax.evaluation import suite
from poise_jax.models import checkpoints, transformer
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, demonstrations, embedded
from poise_jax.tasks import carryless_demonstrations as teaching
from poise_jax.training import imitation

BATCH = 128
CHECK_EVERY = 50
SIZES = suite.SuiteConfig(sampled_problems=96, greedy_problems=192)

Demonstrate = Callable[[arithmetic.Problem, np.random.Generator], str]


class Stage(NamedTuple):
  """One stage of imitation.

  Attributes:
    demonstrate: writes a completion to imitate.
    products: share of products among operations.
    rate: peak of the learning rate.
    steps: over which it falls, and after which the stage ends.
    left: share of the learning rate that is left then.
    target: share of worked solutions, reproduced exactly, at which it ends
      before; above 1 is never.
  """

  demonstrate: Demonstrate
  products: float
  rate: float
  steps: int
  left: float = 0.05
  target: float = 2.0


class Recipe(NamedTuple):
  """How one base policy is made.

  Attributes:
    task: that it is made for.
    width: of its hidden states.
    seed: of weights and data.
    shares: of problems with 1, 2, ... operations.
    stages: in their order.
    bands: metric -> lowest and highest value that is written.
    start: directory in `poise_jax/models` to start from; empty for random
      weights.
  """

  task: embedded.Task
  width: int
  seed: int
  shares: tuple[float, ...]
  stages: tuple[Stage, ...]
  bands: Mapping[str, tuple[float, float]]
  start: str = ""


def _even_style(problem: arithmetic.Problem) -> Mapping[object, float]:
  """Worked solutions are as likely whatever the first operand is."""
  if len(problem.operators) == 1:
    return {
        demonstrations.worked: 0.85,
        demonstrations.direct: 0.10,
        demonstrations.wrong_direct: 0.05,
    }
  return {
      demonstrations.worked: 0.20,
      demonstrations.direct: 0.35,
      demonstrations.skipping: 0.20,
      demonstrations.unclosed: 0.05,
      demonstrations.bare: 0.05,
      demonstrations.unanswered: 0.05,
      demonstrations.wrong_worked: 0.05,
      demonstrations.wrong_direct: 0.05,
  }


def _from_mixture(mixture: Callable[..., Mapping]) -> Demonstrate:
  return lambda p, rng: demonstrations.demonstrate(p, mixture(p), rng)


def _carryless_stages(seed: int, mixture: Mapping) -> tuple[Stage, ...]:
  """A teacher with gaps, then one with the same gaps, wider."""

  def stage(teacher: teaching.Teacher, **schedule: float) -> Stage:
    write = lambda p, rng: teaching.demonstrate(p, mixture, teacher, rng)
    return Stage(write, products=0.5, **schedule)

  return (
      stage(
          teaching.make_teacher(seed, 0.25, 0.85),
          rate=3e-3,
          steps=900,
          left=1 / 30,
      ),
      stage(teaching.make_teacher(seed, 0.10, 0.70), rate=1e-3, steps=200),
  )


_CARRYLESS = Recipe(
    task=embedded.CARRYLESS,
    width=64,
    seed=0,
    shares=(0.25, 0.25, 0.25, 0.25),
    stages=_carryless_stages(0, teaching.MIXTURE),
    bands={
        "overall": (18, 45),
        "valid_rate": (0.5, 0.9),
        "truncated_rate": (0.05, 0.5),
        "pass_at_k/mixed4": (0.02, 0.5),
    },
)
RECIPES = {
    "carryless": _CARRYLESS,
    "carryless_second": _CARRYLESS._replace(
        seed=1,
        stages=_carryless_stages(1, teaching.SECOND_MIXTURE),
    ),
    "arithmetic_second": Recipe(
        task=embedded.ARITHMETIC,
        width=64,
        seed=1,
        shares=(0.15, 0.22, 0.25, 0.22, 0.16),
        stages=(
            Stage(
                _from_mixture(demonstrations.skill_mixture),
                products=0.4,
                rate=1e-3,
                steps=150,
            ),
            Stage(
                _from_mixture(_even_style), products=0.4, rate=1e-3, steps=200
            ),
        ),
        bands={
            "overall": (15, 50),
            "valid_rate": (0.7, 0.95),
            "pass_at_k/products4": (0.08, 0.6),
        },
        start="embedded_policy",
    ),
}


def architecture(recipe: Recipe) -> transformer.TransformerConfig:
  """Two layers and heads, as the embedded policy."""
  return transformer.TransformerConfig(
      vocab_size=len(tokenizer_lib.SYMBOLS),
      hidden_size=recipe.width,
      intermediate_size=2 * recipe.width,
      num_hidden_layers=2,
      num_attention_heads=2,
      num_key_value_heads=2,
      max_position_embeddings=(
          arithmetic.PROMPT_LENGTH + arithmetic.COMPLETION_LENGTH
      ),
      rope_theta=100.0,
  )


def draw(
    recipe: Recipe, stage: Stage, rng: np.random.Generator, count: int
) -> list[arithmetic.Problem]:
  """Draws training problems of every length."""
  problems = []
  for i, n in enumerate(rng.multinomial(count, recipe.shares)):
    tier = arithmetic.Tier(i + 1, stage.products)
    split = arithmetic.Split.TRAIN
    problems += recipe.task.sample(rng, [tier], int(n), split)
  return problems


def encode(
    task: embedded.Task,
    tokenizer: tokenizer_lib.Tokenizer,
    problems: Sequence[arithmetic.Problem],
    completions: Sequence[str],
) -> imitation.Demonstrations:
  """Lays rows out; completions that are too long end where the task ends them."""
  start = task.prompt_length
  shape = (len(problems), start + task.completion_length)
  tokens = np.full(shape, tokenizer.pad_id, np.int32)
  mask = np.zeros(shape, np.float32)
  tokens[:, :start] = tokenizer.encode_prompts([p.prompt for p in problems])
  for i, completion in enumerate(completions):
    ids = tokenizer.encode_completion(completion)[: task.completion_length]
    tokens[i, start : start + len(ids)] = ids
    mask[i, start : start + len(ids)] = 1
  return imitation.Demonstrations(jnp.asarray(tokens), jnp.asarray(mask))


def batches(
    recipe: Recipe,
    stage: Stage,
    tokenizer: tokenizer_lib.Tokenizer,
    rng: np.random.Generator,
) -> Iterator[imitation.Demonstrations]:
  """Yields demonstrations for ever."""
  while True:
    problems = draw(recipe, stage, rng, BATCH)
    texts = [stage.demonstrate(p, rng) for p in problems]
    yield encode(recipe.task, tokenizer, problems, texts)


def flawless(recipe: Recipe, problem: arithmetic.Problem) -> str:
  """The worked solution without a fault."""
  rng = np.random.default_rng(0)
  if recipe.task is embedded.CARRYLESS:
    return teaching.worked(problem, teaching.flawless(), rng)
  return demonstrations.worked(problem, rng)


def learn(
    recipe: Recipe,
    stage: Stage,
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokenizer: tokenizer_lib.Tokenizer,
    number: int,
) -> nnx.State:
  """One stage, from `params`."""
  held_out = draw(
      recipe, stage, np.random.default_rng([recipe.seed, number, 1]), 512
  )
  worked = encode(
      recipe.task, tokenizer, held_out, [flawless(recipe, p) for p in held_out]
  )
  measure = jax.jit(imitation.exact_match, static_argnums=0)

  def stop(step: int, params: nnx.State, loss: float) -> bool:
    if step % CHECK_EVERY and step < stage.steps:
      return False
    share = float(measure(graphdef, params, worked))
    print(f"{number} {step:5d} loss {loss:.3f} worked {share:.3f}", flush=True)
    return share >= stage.target or step >= stage.steps

  schedule = optax.warmup_cosine_decay_schedule(
      0.0, stage.rate, 40, stage.steps, stage.left * stage.rate
  )
  rng = np.random.default_rng([recipe.seed, number, 0])
  return imitation.imitate(
      graphdef,
      params,
      optax.adamw(schedule, b2=0.98, weight_decay=0.01),
      batches(recipe, stage, tokenizer, rng),
      stop=stop,
  )


def check_room(recipe: Recipe, metrics: Mapping[str, float]) -> None:
  """Raises unless every measured value lies in its band."""
  outside = [
      f"{name} = {metrics[name]:.3f} not in [{low}, {high}]"
      for name, (low, high) in recipe.bands.items()
      if not low <= metrics[name] <= high
  ]
  if outside:
    raise RuntimeError(f"nothing written: {'; '.join(outside)}")


def write(directory: pathlib.Path, recipe: Recipe, params: nnx.State) -> None:
  """Writes the Hugging Face directory."""
  fast = tokenizer_lib.build()
  config = architecture(recipe)
  symbol = tokenizer_lib.SYMBOLS.index
  checkpoints.save(
      directory,
      config,
      params,
      eos_token_id=symbol(tokenizer_lib.EOS),
      bos_token_id=symbol(tokenizer_lib.BOS),
      pad_token_id=symbol(tokenizer_lib.PAD),
  )
  fast.save(str(directory / "tokenizer.json"))
  fields = {
      "tokenizer_class": "Qwen2Tokenizer",
      "bos_token": tokenizer_lib.BOS,
      "eos_token": tokenizer_lib.EOS,
      "pad_token": tokenizer_lib.PAD,
      "model_max_length": config.max_position_embeddings,
      "clean_up_tokenization_spaces": False,
  }
  text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
  (directory / "tokenizer_config.json").write_text(text, "utf-8")


def main(argv: list[str], name: str, out: pathlib.Path) -> None:
  """Trains, measures, and writes if there is room."""
  del argv
  recipe = RECIPES[name]
  tokenizer = tokenizer_lib.Tokenizer(tokenizer_lib.build())
  graphdef, params = transformer.make(architecture(recipe), recipe.seed)
  if recipe.start:
    models = pathlib.Path(checkpoints.__file__).parent
    params = checkpoints.load(models / recipe.start).params
  for number, stage in enumerate(recipe.stages):
    params = learn(recipe, stage, graphdef, params, tokenizer, number)
  params = jax.tree.map(jnp.asarray, params)
  evaluate = suite.make_evaluate(graphdef, tokenizer, SIZES, recipe.task)
  metrics = evaluate(params, 0, arithmetic.Split.SEARCH)
  print(json.dumps(metrics, indent=2), flush=True)
  check_room(recipe, metrics)
  write(out, recipe, params)
  print(f"written to {out}")


if __name__ == "__main__":
  recipe_flag = flags.DEFINE_enum(
      "recipe", None, list(RECIPES), "Which policy.", required=True
  )
  out_flag = flags.DEFINE_string(
      "out", None, "Directory to write.", required=True
  )
  app.run(
      lambda argv: main(argv, recipe_flag.value, pathlib.Path(out_flag.value))
  )
