#!/usr/bin/env bash
# A TPU slice on GKE, as a JobSet that restarts when a host is lost.
#
#   launch/gke.sh [--dry-run] --config=… --workdir=gs://…
#
# NAME            of the JobSet
# IMAGE           container with this repository in /synpo_jax and its
#                 requirements installed: IMAGE=… launch/image.sh pushes it
# ACCELERATOR     node label, as tpu-v5-lite-podslice; TOPOLOGY, as 4x4
# HOSTS, CHIPS    hosts of the slice, and chips on each
# CLAIM           optional: volume claim of a file system that all hosts may
#                 write (Filestore), mounted as /shared
#
# Workdir, data.cache, videos, pairs and weights lie in a bucket (gs://…) or on
# such a file system.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

need NAME IMAGE ACCELERATOR TOPOLOGY
need_number HOSTS CHIPS
need_arguments "$@"

# Prints a text as YAML reads it back.
quoted() {
  printf "'%s'" "${1//\'/\'\'}"
}

listed=""
for argument in "$@"; do
  listed+=", $(quoted "$argument")"
done

volume() {
  cat <<YAML
              volumeMounts:
              - name: shared
                mountPath: /shared
            volumes:
            - name: shared
              persistentVolumeClaim:
                claimName: $(quoted "$CLAIM")
YAML
}

manifest() {
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $(quoted "$NAME")
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
              cloud.google.com/gke-tpu-accelerator: $(quoted "$ACCELERATOR")
              cloud.google.com/gke-tpu-topology: $(quoted "$TOPOLOGY")
            containers:
            - name: train
              image: $(quoted "$IMAGE")
              workingDir: /synpo_jax
              command:
              - sh
              - -c
              - >-
                python -m synpo_jax.preflight --distributed "\$@" &&
                exec python -m synpo_jax.train --distributed "\$@"
              args: ['train'$listed]
              resources:
                limits:
                  google.com/tpu: $CHIPS
YAML
  if [[ -n ${CLAIM:-} ]]; then
    volume
  fi
}

if [[ -n $DRY_RUN ]]; then
  manifest
else
  manifest | kubectl apply -f -
fi
