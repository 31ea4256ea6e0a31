"""The policy as its own sampler, and what algorithms it rules out."""

from flax import nnx
import jax

from poise_jax import types
from poise_jax.algorithms import dependence
from poise_jax.models import logical_axes
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import generate, programs, sampling
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.training import config as config_lib


def make_engine(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokenizer: tokenizer_lib.Vocabulary,
    config: config_lib.TrainConfig,
    mesh: jax.sharding.Mesh,
    *,
    greedy: bool = False,
) -> engine_lib.RolloutEngine:
  """The policy itself, sampling on the mesh that it is trained on.

  Args:
    graphdef: structure of the policy.
    params: of the policy, or their shapes.
    tokenizer: of the policy.
    config: lengths, temperature, filters, group size.
    mesh: the devices.
    greedy: one completion for each prompt, of the most probable tokens.
  """
  sample = sampling.filtered(config.top_k, config.top_p)
  prepared = config.scoring.compute_dtype != "float32" or config.mesh.fsdp > 1
  place = (
      logical_axes.decoding_shardings
      if prepared
      else logical_axes.parameter_shardings
  )
  of_params = place(mesh, params)
  generate_fn = generate.make_generate(
      graphdef,
      sampling.greedy if greedy else sample,
      copies=1 if greedy else config.group_size,
      max_length=config.completion_length,
      eos_ids=tokenizer.eos_ids,
      pad_id=tokenizer.pad_id,
      temperature=config.temperature,
      schedule=config.schedule,
      shardings=programs.on_mesh(mesh, of_params),
  )
  if not prepared:
    return engine_lib.local(generate_fn)
  prepare = engine_lib.make_prepare(config.scoring.compute_dtype, of_params)
  return engine_lib.local(generate_fn, prepare)


def check_algorithm(
    algorithm: types.Algorithm, config: config_lib.TrainConfig
) -> None:
  """Refuses losses that read log-probabilities which mean something else.

  `top_k` and `top_p` leave tokens out, and what they leave has more probability
  than `sampler_logprobs` say. Without a reference `ref_logprobs` are those of
  the old policy, and a divergence from it would vanish unnoticed.

  Raises:
    ValueError: naming the fields to change.
  """
  if not config.reference and dependence.depends_on(
      algorithm, "ref_logprobs", config.group_size
  ):
    raise ValueError(
        "--config.train.reference=False leaves out the reference policy, whose"
        f" log-probabilities the loss of {algorithm.name} reads; set"
        " --config.train.reference=True, or choose another algorithm"
    )
  filtered = config.top_k > 0 or config.top_p < 1
  if filtered and dependence.depends_on(
      algorithm, "sampler_logprobs", config.group_size
  ):
    raise ValueError(
        f"{algorithm.name} corrects for the sampler, whose log-probabilities"
        f" are not known with top_k={config.top_k} and top_p={config.top_p}; set"
        " --config.train.top_k=0 and --config.train.top_p=1, or choose another"
        " algorithm"
    )
