#!/usr/bin/env bash
# Sourced by the launchers: their arguments, and how a command is shown or run.
# --dry-run counts wherever it stands; --help prints the top of the script.

DRY_RUN=${DRY_RUN:-}
arguments=()
for argument in "$@"; do
  case $argument in
    --dry-run) DRY_RUN=1 ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "launch/${0##*/}"
      exit
      ;;
    *) arguments+=("$argument") ;;
  esac
done
set -- "${arguments[@]}"

# Runs a command, or prints it, quoted for a shell, under --dry-run.
run() {
  if [[ -n $DRY_RUN ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# Prints arguments as words that any shell reads back; %q needs bash for some.
words() {
  local argument
  for argument in "$@"; do
    if [[ $argument =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      printf '%s ' "$argument"
    else
      printf "'%s' " "${argument//\'/\'\\\'\'}"
    fi
  done
}

# Says why this cannot go on, and leaves.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Fails unless every named variable of the environment has a value.
need() {
  local variable
  for variable in "$@"; do
    [[ -n ${!variable:-} ]] || die "set $variable (--help says what it is)"
  done
}

# Fails unless every named variable of the environment is a number of things.
need_number() {
  local variable
  need "$@"
  for variable in "$@"; do
    [[ ${!variable} =~ ^[1-9][0-9]*$ ]] ||
      die "$variable=${!variable}: give a whole number"
  done
}

# Fails unless there are arguments for the run.
need_arguments() {
  (($#)) || die "give the arguments of synpo_jax.train: --config=… --workdir=…"
}
