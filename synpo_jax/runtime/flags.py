"""Flags that several entries have: defined once, as absl wants it."""

import sys

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from synpo_jax.runtime import shipped


class _ConfigParser(ConfigFileFlagParser):
  """Loads a config that is named by path or, if it is ours, by name alone."""

  def parse(self, path: str):
    """What get_config() returns, `path` being FILE or FILE:ARGUMENT."""
    name, *argument = path.split(":", 1)
    file = str(shipped.find_config(name))
    return super().parse(":".join((file, *argument)))


CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to do, as vdc:loss=dpo or a file, my_config.py."
)
flags.FLAGS["config"].parser = _ConfigParser("config")
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run: what it reads, keeps and writes."
)
flags.register_validator(
  "workdir",
  lambda folder: folder is None or "://" not in folder,
  "buckets are not written to; mount one, and give its folder",
)
OUT = flags.DEFINE_string("out", None, "Folder to write into.")


def in_help(*names):
  """Lists flags in an entry's --help, which else shows its own file's alone."""
  for name in names:
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
