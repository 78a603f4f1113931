#!/usr/bin/env bash
# A TPU slice on Google Cloud: make it, set it up, run on all its hosts.
#
#   launch/tpu_vm.sh [--dry-run] create|setup|run|watch|fetch|delete [ARGUMENTS]
#
# NAME, ZONE      of the slice; PROJECT is optional
# TYPE, VERSION   for create: accelerator type (v5litepod-16) and the software
#                 (v2-alpha-tpuv5-lite); QUEUED=1 waits in the queue instead,
#                 SPOT=1 takes spare capacity
# WORKDIR         for fetch: the folder of the run on the slice
#
# run and watch hand their arguments to `python -m synpo_jax.train` on every
# host. watch makes the slice again when it was taken away, and starts the
# same command, which continues: the workdir must be a bucket (gs://…) then.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

[[ ${1:-} == --dry-run ]] && DRY_RUN=1 && shift
action=${1:-}
[[ -n $action ]] || die "usage: tpu_vm.sh [--dry-run] create|setup|run|watch|fetch|delete"
shift
need NAME ZONE
where=(--zone="$ZONE")
[[ -n ${PROJECT:-} ]] && where+=(--project="$PROJECT")
folder=synpo_jax

on_all() {
  run gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all \
    --command="$1"
}

create() {
  need TYPE VERSION
  local spot=()
  if [[ -n ${QUEUED:-} ]]; then
    [[ -n ${SPOT:-} ]] && spot=(--spot)
    run gcloud compute tpus queued-resources create "$NAME-request" \
      "${where[@]}" --node-id="$NAME" --accelerator-type="$TYPE" \
      --runtime-version="$VERSION" "${spot[@]}"
  else
    [[ -n ${SPOT:-} ]] && spot=(--preemptible)
    run gcloud compute tpus tpu-vm create "$NAME" "${where[@]}" \
      --accelerator-type="$TYPE" --version="$VERSION" "${spot[@]}"
  fi
}

setup() {
  local archive
  archive=$(mktemp -u).tar.gz
  run git archive --format=tar.gz --output="$archive" HEAD
  run gcloud compute tpus tpu-vm scp "$archive" "$NAME:synpo_jax.tar.gz" \
    "${where[@]}" --worker=all
  on_all "mkdir -p $folder && tar -xzf synpo_jax.tar.gz -C $folder &&
cd $folder && python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt 'jax[tpu]'"
}

train() {
  local arguments
  arguments=$(printf '%q ' --distributed "$@")
  on_all "cd $folder && .venv/bin/python -m synpo_jax.preflight $arguments &&
.venv/bin/python -m synpo_jax.train $arguments"
}

watch() {
  until train "$@"; do
    state=$(gcloud compute tpus tpu-vm describe "$NAME" "${where[@]}" \
      --format='value(state)' || echo GONE)
    [[ $state == READY ]] && die "the run failed on a healthy slice"
    printf 'the slice is %s; making it again\n' "$state" >&2
    run gcloud compute tpus tpu-vm delete "$NAME" "${where[@]}" --quiet || true
    create
    setup
  done
}

case $action in
  create) create ;;
  setup) setup ;;
  run) train "$@" ;;
  watch) watch "$@" ;;
  fetch)
    need WORKDIR
    run gcloud compute tpus tpu-vm scp --recurse "$NAME:$folder/$WORKDIR" \
      runs/ "${where[@]}" --worker=0
    ;;
  delete)
    run gcloud compute tpus tpu-vm delete "$NAME" "${where[@]}" --quiet
    ;;
  *) die "unknown action $action" ;;
esac
