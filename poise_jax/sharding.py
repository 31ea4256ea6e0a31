"""Where arrays live: the mesh, one table of axes, and many processes.

Code names the logical axes of its arrays; the table below is the only place
that says which mesh axis splits them, so another mesh is another `MeshConfig`
and never other code.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
from numpy.typing import NDArray

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axes that split it. Any other axis is replicated.
_TABLE = {
    "prompt": ("data", "fsdp"),
    "completion": ("data", "fsdp"),  # those of one prompt stay together
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
}


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Number of devices along each axis of the mesh.

  Attributes:
    data: copies of the policy, each with its part of the batch.
    fsdp: parts of the policy's width, each with its part of the batch.
    tensor: parts of heads, inner layers and vocabulary.
  """

  data: int = 1
  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    for axis, size in zip(MESH_AXES, self.shape, strict=True):
      if not isinstance(size, int) or size < 1:
        raise ValueError(
            f"`{axis}` must be a whole number of at least 1, got {size!r}; set"
            f" --config.mesh.{axis}"
        )

  @property
  def shape(self) -> tuple[int, int, int]:
    """Devices along `MESH_AXES`."""
    return self.data, self.fsdp, self.tensor

  @property
  def size(self) -> int:
    """Devices in all."""
    return math.prod(self.shape)


def spread(shape: Sequence[int], slices: int) -> tuple[int, ...]:
  """Factors of `slices` along each axis, outermost axes first.

  The network within a slice (of TPUs; a GPU node) is fast; the slow one between
  slices should carry the axis that talks least.
  """
  factors = []
  for size in shape:
    factors.append(math.gcd(size, slices))
    slices //= factors[-1]
  return tuple(factors)


def make_mesh(
    config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """Arranges devices along `MESH_AXES`, as their network suggests.

  Args:
    config: devices along each axis.
    devices: to be used, all of them; those of all processes if None.

  Raises:
    ValueError: if the mesh needs fewer or more devices than there are.
  """
  devices = list(jax.devices() if devices is None else devices)
  if config.size != len(devices):
    raise ValueError(
        f"the mesh must use every device: --config.mesh.data={config.data} x"
        f" --config.mesh.fsdp={config.fsdp} x"
        f" --config.mesh.tensor={config.tensor} is {config.size}, the number of"
        f" devices is {len(devices)}; change a flag until they agree"
    )
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices > 1:
    outer = spread(config.shape, slices)
    inner = [n // m for n, m in zip(config.shape, outer, strict=True)]
    array = mesh_utils.create_hybrid_device_mesh(
        inner, outer, devices, allow_split_physical_axes=True
    )
  else:
    array = mesh_utils.create_device_mesh(
        config.shape, devices, allow_split_physical_axes=True
    )
  # The compiler propagates shardings from the arguments of a program.
  auto = (jax.sharding.AxisType.Auto,) * len(MESH_AXES)
  return jax.sharding.Mesh(array, MESH_AXES, axis_types=auto)


def spec(*logical_axes: str | None) -> PartitionSpec:
  """How an array with these axes is split; None or unknown is replicated.

  Trailing replicated axes are left out, so that equal placements are equal.
  """
  axes = [_TABLE.get(axis) for axis in logical_axes]
  while axes and axes[-1] is None:
    axes.pop()
  return PartitionSpec(*axes)


def named(mesh: jax.sharding.Mesh, *logical_axes: str | None) -> NamedSharding:
  """Sharding over `mesh` of an array with these axes."""
  return NamedSharding(mesh, spec(*logical_axes))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Sharding of an array that every device holds whole."""
  return named(mesh)


def constrain(x: jax.Array, *logical_axes: str | None) -> jax.Array:
  """Fixes how a value inside a program is split over the mesh in context.

  Where weights and batch are both split by `fsdp`, the compiler may split
  hidden states by width and sum whole logits over devices. Once they are fixed
  to their rows, after the embedding, it gathers weights instead.

  Args:
    x: a value under `jax.jit`.
    *logical_axes: of `x`.

  Returns:
    `x`; nothing happens outside `with jax.set_mesh(mesh)`.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.lax.with_sharding_constraint(x, spec(*logical_axes))


def batch_shardings(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  """Shardings of arrays whose leading axis is prompts or completions.

  Args:
    mesh: the devices.
    tree: pytree of arrays, shapes or numbers; completions of one prompt are
      consecutive rows. Only the number of axes matters.

  Returns:
    A pytree of the same structure: leading axes split, scalars replicated.
  """
  batch, scalar = named(mesh, "prompt"), replicated(mesh)
  return jax.tree.map(lambda leaf: batch if np.ndim(leaf) else scalar, tree)


def check_rows(config: MeshConfig, rows: int, flag: str, **cuts: int) -> None:
  """Refuses a number of rows that the mesh cannot split evenly.

  Args:
    config: the mesh.
    rows: prompts or problems, over all devices.
    flag: sets their number, such as "--config.evaluate.greedy_problems".
    **cuts: flags of the same section, by their last name, that cut the rows
      into equal parts before devices share each part.

  Raises:
    ValueError: naming the flags and the nearest numbers that fit.
  """
  section = flag.rpartition(".")[0] + "."
  factors = {section + name: count for name, count in cuts.items()}
  for name, count in ({flag: rows} | factors).items():
    if count < 1:
      raise ValueError(f"{name} must be at least 1, got {count}")
  for axis in _TABLE["prompt"]:
    factors[f"--config.mesh.{axis}"] = getattr(config, axis)
  whole = math.prod(factors.values())
  if rows % whole:
    below = rows // whole * whole
    listed = ", ".join(f"{name}={count}" for name, count in factors.items())
    raise ValueError(
        f"{flag} must be a multiple of {whole}, the product of {listed}; got"
        f" {rows}, use {f'{below} or ' * (below > 0)}{below + whole}"
    )


def check_batch(
    config: MeshConfig,
    prompts: int,
    minibatches: int = 1,
    micro_batches: int = 1,
    *,
    section: str = "--config.train.",
) -> None:
  """Refuses a batch that does not split evenly, before anything is compiled.

  Prompts are cut into minibatches (one optimizer update each), these into
  micro-batches (one forward pass each), and these are split over `data` and
  `fsdp`. Groups are never cut, so their size does not matter.

  Args:
    config: the mesh.
    prompts: of one rollout, over all devices.
    minibatches: of one rollout.
    micro_batches: of one minibatch.
    section: where the flags with these names are.

  Raises:
    ValueError: as `check_rows`.
  """
  cuts = {"minibatches": minibatches, "micro_batches": micro_batches}
  check_rows(config, prompts, f"{section}prompts", **cuts)


def place(mesh: jax.sharding.Mesh, tree: Any, shardings: Any = None) -> Any:
  """Puts arrays on the mesh; every process passes the same whole arrays.

  Args:
    mesh: the devices, those of other processes included.
    tree: pytree of numpy arrays, numbers or jax arrays (PRNG keys too). Numpy
      arrays are copied; a jax array already in place is returned as it is, and
      donating the one then takes the other along.
    shardings: pytree of the same structure; if None, those of
      `batch_shardings`.

  Returns:
    Global arrays, of which a process holds its devices' parts.

  Raises:
    ValueError: if a sharding is of another mesh, or an axis is not divisible
      by the devices that split it.
  """

  def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.mesh != mesh:
      raise ValueError(
          f"`shardings` must all be of `mesh` {mesh}, got one of"
          f" {sharding.mesh}; make them for the mesh that is passed"
      )
    if isinstance(leaf, jax.Array):
      # Devices of other processes take only what is global already.
      if jax.process_count() == 1 or not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
      if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = np.asarray(leaf)
    else:
      # The CPU backend may keep numpy's memory: give it some of its own.
      leaf = np.array(leaf)
    return jax.make_array_from_callback(
        leaf.shape, sharding, lambda index: leaf[index]
    )

  leaves, structure = jax.tree.flatten(tree)
  if shardings is None:
    wanted = batch_shardings(mesh, leaves)
  else:
    wanted = structure.flatten_up_to(shardings)
  # Not by a map over both trees: a dataclass of shardings need never be made.
  placed = [put(*pair) for pair in zip(leaves, wanted, strict=True)]
  return jax.tree.unflatten(structure, placed)


def fetch(tree: Any) -> Any:
  """Whole numpy arrays on every process.

  Every process must call it with the same tree. Parts held elsewhere are sent
  one array at a time: a device needs room for the largest one. Arrays of one
  process alone are returned as that process sees them.
  """

  def whole(leaf: Any) -> NDArray:
    if isinstance(leaf, jax.Array) and not (
        leaf.is_fully_addressable or leaf.is_fully_replicated
    ):
      return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)

  return jax.tree.map(whole, tree)


def detect_cluster(environ: Mapping[str, str], *, tpu: bool) -> str:
  """Which launcher started several processes, by its environment variables.

  Args:
    environ: such as `os.environ`.
    tpu: whether this machine has TPU chips; on Google Compute Engine nothing
      else can be seen, and jax asks the metadata server.

  Returns:
    Its name in `jax.distributed.initialize`; empty if it started one process.
  """

  def several(name: str) -> bool:
    return int(environ.get(name) or 1) > 1

  # Set in job steps (srun), not in batch scripts, which are one process.
  if "SLURM_STEP_NODELIST" in environ and several("SLURM_NTASKS"):
    return "slurm"
  if not tpu or "tpu" not in (environ.get("JAX_PLATFORMS") or "tpu"):
    return ""
  for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
    if hosts := environ.get(name):
      many = "," in hosts or several("MEGASCALE_NUM_SLICES")
      return "gketpu" if many else ""
  return "gcetpu" if "TPU_SKIP_MDS_QUERY" not in environ else ""


def _has_tpu() -> bool:
  """Whether TPU chips are attached; asking jax would start its backend."""
  installed = importlib.util.find_spec("libtpu") is not None
  return installed and any(map(os.path.exists, ("/dev/accel0", "/dev/vfio/0")))


def start_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
  """Joins the processes of one run; does nothing if there is only one.

  Arguments come first, then JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID, then the launcher: TPU pods and SLURM job steps tell
  everything (under SLURM jax gives each process one GPU: start one a GPU).
  JAX_NUM_PROCESSES=1 keeps the tasks of a launcher apart. CPUs talk through
  gloo, unless JAX_CPU_COLLECTIVES_IMPLEMENTATION names another library.

  Call it before anything asks jax for devices; a second call does nothing.

  Args:
    coordinator_address: "host:port" of process 0, reachable by all.
    num_processes: in all.
    process_id: of this process, from 0.

  Raises:
    ValueError: if some of the three are missing or do not fit together.
    RuntimeError: if jax is already in use.
  """
  if jax.distributed.is_initialized():
    return
  address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
  count = _given(num_processes, "JAX_NUM_PROCESSES")
  index = _given(process_id, "JAX_PROCESS_ID")
  if count == 1:
    return
  names = ("coordinator_address", "num_processes", "process_id")
  settings = dict(zip(names, (address, count, index), strict=True))
  missing = [name for name, value in settings.items() if value is None]
  cluster = detect_cluster(os.environ, tpu=_has_tpu()) if missing else ""
  if len(missing) == len(settings) and not cluster:
    return
  if missing and not cluster:
    advice = [f"--{name} or JAX_{name.upper()}" for name in missing]
    raise ValueError(
        "several processes need an address, a number and an index, or a"
        f" launcher that tells them; set {' and '.join(advice)}"
    )
  if not missing and not (
      0 <= index < count and re.fullmatch(r".+:\d+", address)
  ):
    raise ValueError(
        "--coordinator_address must be host:port of process 0, and --process_id"
        " at least 0 and below --num_processes (or JAX_COORDINATOR_ADDRESS and"
        f" so on), got {address!r}, {index} and {count}"
    )
  if jax.config.jax_cpu_collectives_implementation is None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(
      **settings, cluster_detection_method=cluster or "deactivate"
  )


def _given(argument: int | None, variable: str) -> int | None:
  """The argument, else the environment variable, else None."""
  text = os.environ.get(variable)
  if argument is not None or not text:
    return argument
  if not text.isdecimal():
    raise ValueError(f"{variable} must be a whole number, got {text!r}")
  return int(text)


def is_writer() -> bool:
  """Whether this process writes files; the others only compute."""
  return jax.process_index() == 0
