"""What must be set before JAX is imported, so that it compiles, never runs."""

import os


def prepare():
  """Lets JAX load compilers without devices: the CPU is its only backend."""
  os.environ |= {
    "JAX_PLATFORMS": "cpu",
    # Programs for chips that are not there could be kept, but never read.
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # what fails is raised, and said once
    "TPU_SKIP_MDS_QUERY": "1",  # asks no metadata server what machine this is
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two plans may run at a time
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # CUDA's compiler needs no driver
    "TPU_WORKER_HOSTNAMES": "localhost",  # libtpu complains without these
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
  }
