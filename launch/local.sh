#!/usr/bin/env bash
# Several processes on this machine, as several hosts would be.
#
#   launch/local.sh [--dry-run] PROCESSES -m synpo_jax.train --config=… …
#
# PYTHON (default .venv/bin/python) runs each; PORT (default 12421) is the
# coordinator's. When one process ends with an error the others are ended.
# Before synpo_jax.train, synpo_jax.preflight looks whether it can run.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

usage="usage: local.sh [--dry-run] PROCESSES -m synpo_jax.train --config=… …"
processes=${1:-}
[[ $processes =~ ^[1-9][0-9]*$ && $# -gt 1 ]] || die "$usage"
shift
python=${PYTHON:-.venv/bin/python}
coordinator=127.0.0.1:${PORT:-12421}

started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT

# Runs a command as all processes, until the last of them has ended.
together() {
  local command index left
  for ((index = 0; index < processes; index++)); do
    command=("$python" "$@" --coordinator="$coordinator"
      --processes="$processes" --process="$index")
    if [[ -n $DRY_RUN ]]; then
      run "${command[@]}"
    else
      "${command[@]}" &
      started+=($!)
    fi
  done
  [[ -n $DRY_RUN ]] && return
  for ((left = processes; left > 0; left--)); do
    wait -n "${started[@]}" ||
      die "a process ended with an error; the others are ended too"
  done
  started=()
}

if [[ "$1 ${2:-}" == "-m synpo_jax.train" ]]; then
  together -m synpo_jax.preflight "${@:3}"
fi
together "$@"
trap - EXIT
