"""What crosses devices: LoRA gradients as float32, int8 kernels as bytes."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

from synpo_jax.models import initial, sharding
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig
from synpo_jax.training import update
from synpo_jax.training.pair_logps import Scoring
from synpo_jax.weights.config_reading import captioner_config
from tests.support import small_text, xla
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("optimised")  # as users compile

LORA = LoraConfig(rank=3, alpha=6.0, dropout=0.0)
LOSS = dict(name="synpo", coefficients=dict(alpha=30.0, beta=0.2))


def test_lora_gradients_are_summed_over_devices_in_float32():
  """A whole bfloat16 train step. XLA's CPU backend sums bfloat16 arrays as
  float32 and marks such a sum as promoted: rounded before, it is no better."""
  mesh = sharding.make_mesh(data=8, fsdp=1, model=1)
  model = Captioner(
    captioner_config(small_text.SIZES), LORA, dtype=jnp.bfloat16
  )
  variables = {
    "params": initial.params(model, 0, dtype=jnp.bfloat16),
    "lora": initial.adapter(model, 1),
  }
  places = sharding.tree_shardings(variables, mesh)
  trained, frozen = update.split(jax.device_put(variables, places), "lora/.*")
  scoring = Scoring("shared", 2, head_sharding=None, rows_sharding=None)
  objective = update.make_objective(model, scoring, **LOSS)
  tx = optax.sgd(1.0)
  step = jax.jit(update.make_train_step(objective, tx, dropout=False))
  state = update.init_state(trained, tx)
  args = (
    state,
    frozen,
    sharding.put_batch(small_text.drawn(1, 8), mesh),
    jax.random.key(0),
  )
  text = step.lower(*args).compile().as_text()
  summed = {}
  for shapes, how in re.findall(r"= (\S.*) all-reduce\(.*to_apply=(\S+)", text):
    for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
      summed.setdefault(sizes, set()).add((dtype, "promoted" in how))
  for leaf in jax.tree.leaves(trained):
    sizes = ",".join(map(str, leaf.shape[1:]))
    assert summed[sizes] == {("f32", False)}


GATHER = """
import re
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec as P
from synpo_jax.models import sharding
from synpo_jax.models import int8

devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
mesh = sharding.make_mesh(data=1, fsdp=4, model=1, devices=devices)
rows, split = NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P("fsdp"))
x = jax.ShapeDtypeStruct((2048, 512), jnp.bfloat16, sharding=rows)
q = jax.ShapeDtypeStruct((512, 256), jnp.int8, sharding=split)
scale = jax.ShapeDtypeStruct((256,), jnp.float32)

def loss(x, q, scale):
  y = int8.matmul(x, q, scale, jnp.bfloat16)
  return jnp.sum(y.astype(jnp.float32) ** 2)

grad = jax.jit(jax.grad(loss), out_shardings=rows)
text = grad.lower(x, q, scale).compile().as_text()
print(re.findall(r"= \\(?(\\w+\\[[\\d,]+\\]).* all-gather(?:-start)?\\(", text))

x = jax.ShapeDtypeStruct((8192, 4096), jnp.bfloat16, sharding=rows)
w = jax.ShapeDtypeStruct((4096, 8192), jnp.bfloat16, sharding=split)
for told in None, sharding.COMPILER["tpu"]:
  how = dict(out_shardings=rows, compiler_options=told)
  text = jax.jit(jnp.matmul, **how).lower(x, w).compile().as_text()
  print("collective-permute" in text, "all-gather" in text)
"""


@pytest.mark.slow
def test_sharded_kernels_are_gathered_as_bytes_and_whole():
  """Compiled for four TPU chips, of which none need be here.

  So is a product of a split weight, which windows would make of four parts.
  """
  pytest.importorskip("libtpu")
  out = subprocess.run(
    [sys.executable, "-c", GATHER],
    cwd=ROOT,
    env=xla.without_flags()
    | {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"},
    capture_output=True,
    text=True,
    check=True,
  )
  *_, int8, windows, whole = out.stdout.splitlines()
  assert int8 == "['s8[512,256]']"
  assert (windows, whole) == ("True False", "False True")
