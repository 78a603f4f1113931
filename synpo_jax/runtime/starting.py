"""What commands set before JAX begins: a GPU's part, threads, kept programs.

They are JAX's and XLA's own settings, and what the environment says of them is
kept.
"""

import hashlib
import os
import pathlib
import platform
import re
import sys

# The part of a GPU that JAX takes: context, libraries and fragments need the
# rest. By itself JAX would take three quarters.
GPU_PART = 0.95
PART = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
THREADS = "NPROC"  # of XLA on the CPU
VIRTUAL = "XLA_FLAGS", "JAX_NUM_CPU_DEVICES"  # what makes devices of a CPU
FOLDER = "JAX_COMPILATION_CACHE_DIR"
SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
SHORTEST = 0.5  # seconds of compiling that are worth a file


def take_gpu() -> None:
  """Lets JAX take as much of a GPU as `plan` counts on."""
  if os.environ.keys().isdisjoint(PART):
    os.environ[PART[0]] = str(GPU_PART)


def give_threads() -> None:
  """Gives XLA two threads for each virtual device of the CPU.

  It makes one. A device with 32 programs under way holds its thread until one
  of them ends, and that one may need the thread to meet the other devices:
  nothing ends then.
  """
  told, count = (os.environ.get(name, "") for name in VIRTUAL)
  given = re.findall(r"host_platform_device_count=(\d+)", told)
  devices = max(map(int, [*given, count.strip() or 1]))
  if devices > 1:
    threads = max(2 * devices, os.cpu_count() or 1)
    os.environ.setdefault(THREADS, str(threads))


def keep_programs() -> None:
  """Has JAX keep compiled programs in the user's cache folder, and find them.

  Another folder is kept, if JAX_COMPILATION_CACHE_DIR names one. A folder
  that cannot be written is said in a line; programs are compiled anew then.
  """
  if os.environ.get(FOLDER):
    return
  try:
    folder = programs()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      raise PermissionError(f"no permission to write {folder}")
  except (OSError, RuntimeError) as error:  # RuntimeError: no home
    print(f"compiled programs are not kept: {error}", file=sys.stderr)
    return
  os.environ[FOLDER] = str(folder)
  shortest = os.environ.setdefault(SECONDS, str(SHORTEST))
  if "jax" in sys.modules:  # which has read the environment
    import jax

    jax.config.update(FOLDER.lower(), str(folder))
    jax.config.update(SECONDS.lower(), float(shortest))


def programs() -> pathlib.Path:
  """Where programs compiled on this kind of machine are kept.

  A home may be shared by machines with other processors, whose instructions
  programs for the CPU are made of; JAX tells only platforms apart. Raises
  RuntimeError where there is no home.
  """
  return users_folder() / "compiled" / machine()


def users_folder() -> pathlib.Path:
  """`synpo_jax` in the user's cache folder.

  Raises RuntimeError where there is no home.
  """
  home = os.environ.get("XDG_CACHE_HOME")
  home = pathlib.Path(home) if home else pathlib.Path.home() / ".cache"
  return home / "synpo_jax"


def machine(cpuinfo: str = "/proc/cpuinfo") -> str:
  """A short name of this machine's kind of processor."""
  kind = [platform.machine(), platform.processor()]
  if os.path.exists(cpuinfo):
    lines = pathlib.Path(cpuinfo).read_text(errors="replace").splitlines()
    told = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    kind += sorted({line for line in lines if line.startswith(told)})
  digest = hashlib.sha256("\n".join(kind).encode()).hexdigest()
  return f"{platform.machine()}-{digest[:12]}"
