#!/usr/bin/env bash
# Makes .venv in the current folder, with Python 3.11 or newer.
#
#   launch/make_venv.sh
#
# Where the machine has none, as the images of TPU VMs of Ubuntu 22.04, uv
# (from PyPI) fetches one.
set -euo pipefail

for python in python3.14 python3.13 python3.12 python3.11 python3; do
  if "$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null; then
    exec "$python" -m venv .venv
  fi
done
printf 'no Python 3.11 or newer here; uv fetches 3.12\n' >&2
python3 -m pip install --quiet --user uv
exec python3 -m uv venv --quiet --seed --python 3.12 .venv
