#!/usr/bin/env bash
# Several GPU nodes under SLURM, one process a GPU.
#
#   NODES=2 GPUS=8 launch/slurm.sh [--dry-run] --config=… --workdir=…
#
# NODES, GPUS     nodes, and GPUs on each
# CPUS            for each process (default 8, as data.workers)
# PARTITION       optional; also TIME (default 24:00:00)
# PYTHON          python on the nodes (default .venv/bin/python)
#
# Workdir and data.cache lie on a file system that all nodes share, or in a
# bucket (gs://…).
# The job is requeued when it is preempted, and continues where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

CPUS=${CPUS:-8} # SLURM would give each process one, for readers and compiler
need_number NODES GPUS CPUS
need_arguments "$@"
python=${PYTHON:-.venv/bin/python}
train=$(words "$python" -m synpo_jax.train --distributed "$@")
check=$(words "$python" -m synpo_jax.preflight --distributed "$@")

options=(
  --job-name=synpo
  --nodes="$NODES"
  --ntasks-per-node="$GPUS"
  --gpus-per-node="$GPUS"
  --cpus-per-task="$CPUS"
  --time="${TIME:-24:00:00}"
  --requeue
  --signal=TERM@120
)
cpus=--cpus-per-task=$CPUS # srun takes it from sbatch no more
[[ -n ${PARTITION:-} ]] && options+=(--partition="$PARTITION")
run sbatch "${options[@]}" --wrap "srun $cpus $check&& srun $cpus $train"
