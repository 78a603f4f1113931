"""A process of its own that hands a run's rows to one tracker's client.

python -P synpo_jax/training/tracker_clients.py wandb

Reads messages, a line of JSON each, until {"end": …} or the end of its input:
{"start": Start as a dict}, then {"row": {"step", name: number}} and {"samples":
{"step", "rows": [{"video", "frames", "before", "now"}]}}, frames being the path
of a PNG. What a client prints goes where stderr goes; what is said to people,
a line, to stdout. Each library is imported here and nowhere else, and finds
its address and its credentials by itself: in its own environment or login.
"""

import json
import os
import pathlib
import re
import signal
import sys
import time

PASSWORD = re.compile(r"(?<=//)[^/@\s]+@")  # in an address


def wandb(start):
  """Weights & Biases; WANDB_MODE=offline writes to `folder`/wandb."""
  import wandb

  run = wandb.init(
    project=start["project"],
    id=start["id"],
    name=start["name"],
    config=start["config"],
    dir=start["folder"],
    resume="allow",
  )

  def samples(step, rows):
    columns = ["video", "frames", "before", "now"]
    table = wandb.Table(columns=columns)
    for row in rows:
      frames = row["frames"] and wandb.Image(row["frames"])
      table.add_data(row["video"], frames, row["before"], row["now"])
    run.log({"samples": table}, step=step)

  def log(step, values):
    run.log(values, step=step)

  return run.url or run.dir, log, samples, run.finish


def trackio(start):
  """Trackio; without TRACKIO_DIR it writes to `folder`/trackio."""
  os.environ.setdefault("TRACKIO_DIR", os.path.join(start["folder"], "trackio"))
  import trackio
  from trackio.sqlite_storage import SQLiteStorage

  project, name = start["project"], start["id"]
  done = {}  # of what is written to the disk, the last step of each name
  for row in SQLiteStorage.get_logs(project, name):
    done |= dict.fromkeys(row, row["step"])
  trackio.init(
    project=project,
    name=name,
    config=start["config"],
    resume="allow",
    embed=False,
  )

  def samples(step, rows):
    for number, row in enumerate(rows):
      media = {f"samples/{number}/{key}": row[key] for key in ("before", "now")}
      if row["frames"]:
        shown = trackio.Image(row["frames"], caption=row["video"])
        media[f"samples/{number}/frames"] = shown
      trackio.log(media, step=step)

  def log(step, values):
    if values := _later(step, values, done):
      trackio.log(values, step=step)

  return os.environ["TRACKIO_DIR"], log, samples, trackio.finish


def mlflow(start):
  """MLflow; without MLFLOW_TRACKING_URI it writes to `folder`/mlruns."""
  os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
  import mlflow
  from mlflow.entities import Metric

  address = os.environ.get("MLFLOW_TRACKING_URI")
  address = address or pathlib.Path(start["folder"], "mlruns").as_uri()
  client = mlflow.MlflowClient(tracking_uri=address)
  run, done = _mlflow_run(client, start)

  def log(step, values):
    now = int(1000 * time.time())
    rows = [
      Metric(name, value, now, step)
      for name, value in _later(step, values, done).items()
    ]
    client.log_batch(run, metrics=rows)

  def samples(step, rows):
    for row in rows:
      if row["frames"]:
        client.log_artifact(run, row["frames"], "samples/frames")
    client.log_dict(run, {"rows": rows}, f"samples/{step}.json")

  return address, log, samples, lambda: client.set_terminated(run)


def _mlflow_run(client, start):
  """(id of the run that bears start's id, {name: its last step there})."""
  found = client.get_experiment_by_name(start["project"])
  experiment = found.experiment_id if found else None
  experiment = experiment or client.create_experiment(start["project"])
  mine = f"tags.`synpo_jax.run` = '{start['id']}'"
  runs = client.search_runs([experiment], mine)
  if not runs:
    tags = {"synpo_jax.run": start["id"]}
    run = client.create_run(experiment, tags=tags, run_name=start["name"])
    for name, value in _flat(start["config"]):
      client.log_param(run.info.run_id, name, str(value)[:500])
    return run.info.run_id, {}
  run = runs[0].info.run_id
  client.update_run(run, "RUNNING")
  return run, {
    name: max(metric.step for metric in client.get_metric_history(run, name))
    for name in runs[0].data.metrics
  }


def _later(step, values, done) -> dict:
  """Those of a row whose last step, of {name: step}, is before it."""
  return {k: v for k, v in values.items() if step > done.get(k, -1)}


def _flat(config, prefix=""):
  for name, value in config.items():
    if isinstance(value, dict) and value:
      yield from _flat(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


CLIENTS = {"wandb": wandb, "trackio": trackio, "mlflow": mlflow}


def serve(name: str, messages, say) -> None:
  """Hands messages on, from the first, which starts, to the last."""
  place, log, samples, finish = CLIENTS[name](next(messages)["start"])
  say(f"{name}: {PASSWORD.sub('…@', str(place))}")
  for message in messages:
    if "end" in message:
      break
    if "row" in message:
      values = dict(message["row"])
      log(values.pop("step"), values)
    else:
      samples(**message["samples"])
  finish()


def main():
  """Serves; says in one line why it cannot go on."""
  for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)  # the run says when it ends
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)

  def say(line):
    print(line, file=out, flush=True)

  name = sys.argv[1]
  try:
    serve(name, map(json.loads, sys.stdin), say)
  except BaseException as error:  # whatever a client raises ends only this
    told = " ".join(PASSWORD.sub("…@", str(error)).split())
    why = f"{type(error).__name__}: {told}"[:300]
    say(f"{name}: nothing more goes there ({why}); metrics.jsonl has every row")
    os._exit(1)  # and no thread of its is waited for


if __name__ == "__main__":
  main()
