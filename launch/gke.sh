#!/usr/bin/env bash
# A TPU slice on GKE, as a JobSet that restarts when a host is lost.
#
#   launch/gke.sh [--dry-run] --config=… --workdir=gs://…
#
# NAME            of the JobSet
# IMAGE           container with this repository in /synpo_jax and its
#                 requirements installed
# ACCELERATOR     node label, as tpu-v5-lite-podslice; TOPOLOGY, as 4x4
# HOSTS, CHIPS    hosts of the slice, and chips on each
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

[[ ${1:-} == --dry-run ]] && DRY_RUN=1 && shift
need NAME IMAGE ACCELERATOR TOPOLOGY HOSTS CHIPS
arguments=""
for argument in --distributed "$@"; do
  [[ $argument == *\'* ]] && die "an argument holds a quote: $argument"
  arguments+=", '$argument'"
done

manifest() {
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $NAME
spec:
  failurePolicy:
    maxRestarts: 100
  replicatedJobs:
  - name: hosts
    replicas: 1
    template:
      spec:
        parallelism: $HOSTS
        completions: $HOSTS
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            terminationGracePeriodSeconds: 120
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: $ACCELERATOR
              cloud.google.com/gke-tpu-topology: $TOPOLOGY
            containers:
            - name: train
              image: $IMAGE
              workingDir: /synpo_jax
              command: ['python', '-m', 'synpo_jax.train'$arguments]
              resources:
                limits:
                  google.com/tpu: $CHIPS
YAML
}

if [[ -n $DRY_RUN ]]; then
  manifest
else
  manifest | kubectl apply -f -
fi
