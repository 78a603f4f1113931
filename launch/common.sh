#!/usr/bin/env bash
# Sourced by the launchers: how a command is shown or run.

DRY_RUN=${DRY_RUN:-}

# Runs a command, or prints it, quoted for a shell, under --dry-run.
run() {
  if [[ -n $DRY_RUN ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# Says why this cannot go on, and leaves.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Fails unless every named variable of the environment has a value.
need() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] || die "set $name (see the top of ${0##*/})"
  done
}
