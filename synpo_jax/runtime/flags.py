"""Flags that several entries have: defined once, as absl wants it."""

import sys

from absl import flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File that describes what to do, as configs/vdc.py:loss=dpo."
)
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
