#!/usr/bin/env bash
# The container that launch/gke.sh runs: built of the last commit, and pushed.
#
#   IMAGE=… launch/image.sh [--dry-run]
#
# IMAGE           name in a registry, as REGION-docker.pkg.dev/PROJECT/REPO/synpo
# JAX             optional: JAX's extra, tpu (the default) or cuda13
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/common.sh
source launch/common.sh

need IMAGE
(($#)) && die "image.sh takes no arguments: $*"
context=$(mktemp -u).tar
run git archive --output="$context" HEAD
build=(docker build --file=launch/Dockerfile --tag="$IMAGE"
  --build-arg=JAX="${JAX:-tpu}" -)
if [[ -n $DRY_RUN ]]; then
  printf '%s< %q\n' "$(run "${build[@]}")" "$context"
else
  "${build[@]}" <"$context"
fi
run rm -f "$context"
run docker push "$IMAGE"
