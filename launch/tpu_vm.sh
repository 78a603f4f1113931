#!/usr/bin/env bash
# A TPU slice on Google Cloud: make it, set it up, run on all its hosts.
#
#   launch/tpu_vm.sh [--dry-run] create|setup|run|watch|fetch|delete [ARGUMENTS]
#
# NAME, ZONE      of the slice; PROJECT is optional
# TYPE, VERSION   for create: accelerator type (v5litepod-16) and the software
#                 (v2-alpha-tpuv5-lite); SPOT=1 takes spare capacity
# QUEUED=1        optional: create waits in the queue (watch and delete have
#                 to know it, too)
# SHARE           for setup, optional: an NFS export that all hosts may write
#                 (Filestore, 10.0.0.2:/share), mounted as /shared
# WORKDIR         for fetch: the folder of the run on the slice, or gs://…
#
# run and watch hand their arguments to `python -m synpo_jax.train` on every
# host. Workdir, data.cache, videos, pairs and weights lie in a bucket (gs://…)
# or on a file system that all hosts share.
# watch makes the slice again when it was taken away, and starts the same
# command, which continues.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

usage="usage: tpu_vm.sh [--dry-run] create|setup|run|watch|fetch|delete"
action=${1:-}
case $action in
  run | watch)
    shift
    need_arguments "$@"
    ;;
  create | setup | fetch | delete)
    shift
    (($#)) && die "$action takes no arguments: $*"
    ;;
  *) die "$usage" ;;
esac
need NAME ZONE
where=(--zone="$ZONE")
[[ -n ${PROJECT:-} ]] && where+=(--project="$PROJECT")
folder=synpo_jax
tpus=(gcloud compute tpus tpu-vm)
queue=(gcloud compute tpus queued-resources)

on_all() {
  run "${tpus[@]}" ssh "$NAME" "${where[@]}" --worker=all --command="$1"
}

# Prints commands as one, of which each follows if the one before succeeds.
and() {
  printf '%s' "$1"
  shift
  (($#)) && printf ' && %s' "$@"
}

create() {
  local spot=()
  if [[ -n ${QUEUED:-} ]]; then
    [[ -n ${SPOT:-} ]] && spot=(--spot)
    run "${queue[@]}" create "$NAME-request" "${where[@]}" --node-id="$NAME" \
      --accelerator-type="$TYPE" --runtime-version="$VERSION" "${spot[@]}"
  else
    [[ -n ${SPOT:-} ]] && spot=(--preemptible)
    run "${tpus[@]}" create "$NAME" "${where[@]}" \
      --accelerator-type="$TYPE" --version="$VERSION" "${spot[@]}"
  fi
}

delete() {
  if [[ -n ${QUEUED:-} ]]; then
    run "${queue[@]}" delete "$NAME-request" "${where[@]}" --force --quiet
  else
    run "${tpus[@]}" delete "$NAME" "${where[@]}" --quiet
  fi
}

state() {
  "${tpus[@]}" describe "$NAME" "${where[@]}" --format='value(state)' ||
    echo GONE
}

setup() {
  local archive
  archive=$(mktemp -u).tar.gz
  run git archive --format=tar.gz --output="$archive" HEAD
  run "${tpus[@]}" scp "$archive" "$NAME:synpo_jax.tar.gz" "${where[@]}" \
    --worker=all
  run rm -f "$archive"
  on_all "$(and "mkdir -p $folder" "tar -xzf synpo_jax.tar.gz -C $folder" \
    "cd $folder" "launch/make_venv.sh" \
    ".venv/bin/pip install -q -r requirements.txt -r requirements-cloud.txt 'jax[tpu]'")"
  if [[ -n ${SHARE:-} ]]; then
    on_all "$(and "sudo apt-get install -qq -y nfs-common" \
      "sudo mkdir -p /shared" \
      "{ mountpoint -q /shared || sudo mount $(words "$SHARE")/shared; }")"
  fi
}

train() {
  local arguments
  arguments=$(words --distributed "$@")
  on_all "$(and "cd $folder" \
    ".venv/bin/python -m synpo_jax.preflight $arguments" \
    ".venv/bin/python -m synpo_jax.train $arguments")"
}

# Makes the slice again; where there is no room for it, asks every minute.
again() {
  delete || true
  until create; do
    sleep 60
  done
  until [[ $(state) == READY ]]; do
    sleep 60
  done
  setup
}

watch() {
  local found
  until train "$@"; do
    found=$(state)
    [[ $found == READY ]] && die "the run failed on a healthy slice"
    printf 'the slice is %s; making it again\n' "$found" >&2
    again
  done
}

case $action in
  create)
    need TYPE VERSION
    create
    ;;
  setup) setup ;;
  run) train "$@" ;;
  watch)
    need TYPE VERSION
    watch "$@"
    ;;
  fetch)
    need WORKDIR
    if [[ $WORKDIR == gs://* ]]; then
      run gcloud storage cp --recursive "$WORKDIR" runs/
      exit
    fi
    [[ $WORKDIR == /* ]] || WORKDIR=$folder/$WORKDIR
    run "${tpus[@]}" scp --recurse "$NAME:$WORKDIR" runs/ "${where[@]}" \
      --worker=0
    ;;
  delete) delete ;;
esac
