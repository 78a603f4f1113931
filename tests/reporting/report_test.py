"""The report: what is drawn, what the page says, what it must not fetch."""

import base64
import html.parser
import io
import json
import math
import shutil
import struct
import subprocess

import numpy as np
import pytest

from synpo_jax import report
from synpo_jax.reporting import panels, plots
from synpo_jax.reporting import report as report_

pytestmark = pytest.mark.slow


def write_run(folder, *, drift=0.0, method="synpo", norms=True):
  """A workdir like those that training leaves."""
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  metrics = []
  for step in range(1, 201):
    chosen = -1.2 - drift * step / 200 + rng.normal() * 0.02
    rejected = -1.3 - step / 100
    row = dict(
      step=step,
      loss=-0.6,
      chosen_logp=chosen,
      rejected_logp=rejected,
      chosen_geo_prob=math.exp(chosen),
      rejected_geo_prob=math.exp(rejected),
      accuracy=0.5 + step / 500,
      margin=math.exp(chosen) - math.exp(rejected),
      grad_norm=0.3,
      pairs_per_s=30.0,
      skipped=1 if step > 100 else 0,
    )
    if norms and step % 5 == 0:
      row["chosen_reward_grad_norm"] = 1e-10 * step
      row["rejected_reward_grad_norm"] = 2e-10 * step
    metrics.append(row)
  write_rows(folder / "metrics.jsonl", metrics)
  (folder / "config.json").write_text(json.dumps({"loss": {"name": method}}))
  return folder


def write_rows(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Page(html.parser.HTMLParser):
  """Everything a page would load, and its words."""

  def __init__(self, text):
    super().__init__()
    self.sources, self.words, self.tags = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    for name, value in attributes:
      if name in ("src", "srcset", "href", "data", "action"):
        self.sources.append(value)

  def handle_data(self, data):
    self.words.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  first = write_run(root / "synpo")
  second = write_run(root / "<b>dpo", drift=1.0, method="dpo", norms=False)
  steps = [{"step": s, "reference_logp": -1 - s / 500} for s in (0, 100, 200)]
  write_rows(first / "eval.jsonl", steps)
  write_rows(
    first / "importance.jsonl",
    [
      dict(importance=i / 50, logp_before=-i / 50, logp_after=-i / 80)
      for i in range(120)
    ],
  )
  page = report_.write([str(first), str(second)], root / "out")
  return root, page


def test_the_page_holds_everything_and_fetches_nothing(written):
  _, path = written
  text = path.read_text("utf-8")
  page = Page(text)
  assert page.sources and all(
    source.startswith("data:image/png;base64,") for source in page.sources
  )
  assert not {"script", "link", "iframe", "object"} & set(page.tags)
  assert "url(" not in text and "@import" not in text
  for source in page.sources:
    png = base64.b64decode(source.split(",", 1)[1])
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG") and width > height > 300
  assert "b" not in page.tags  # a run's name is text, not markup
  assert "<b>dpo" in "".join(page.words)


def test_what_was_not_recorded_is_said(written):
  root, path = written
  words = "".join(Page(path.read_text("utf-8")).words)
  assert "minus its log-prob with every frame" in words
  assert "every.reward_norms was 0" not in words
  alone = report_.write([str(root / "<b>dpo")], root / "alone")
  words = "".join(Page(alone.read_text("utf-8")).words)
  assert "every.reward_norms was 0" in words
  assert "python -m synpo_jax.importance" in words


def test_every_figure_is_a_png_beside_the_page(written):
  root, path = written
  names = {p.stem for p in path.parent.glob("*.png")}
  assert {"logp", "geo_prob", "reward_grad_norms", "accuracy"} <= names
  assert {"margin", "reference_logp", "importance", "loss"} <= names
  assert "text_logp" not in names


def test_the_summary_compares_first_and_last_tenth(written):
  root, path = written
  words = Page(path.read_text("utf-8")).words
  # Updates 1..20 and 181..200 of 0.5 + step / 500.
  assert "0.521 → 0.881" in words
  assert words.count("200") == 2 and words.count("1") == 2


def test_the_legend_names_runs_by_colour_and_lines_by_dash():
  rows = [{"step": 1, "chosen_logp": -1.0, "rejected_logp": -2.0}]
  one, two, empty = (
    plots.Run(name, "dpo", own, [], [])
    for name, own in (("one", rows), ("two", rows), ("none", []))
  )
  panel = panels.PANELS["Rewards"][0]
  entries = plots._legend(panel, [one, empty, two], "light")
  assert [name for _, name in entries] == ["one", "two", "chosen", "rejected"]
  colours = [line.get_color() for line, _ in entries]
  assert len(set(colours)) == 3 and colours[2] == colours[3]
  assert entries[3][0].is_dashed() and not entries[2][0].is_dashed()
  assert [name for _, name in plots._legend(panel, [one], "light")] == [
    "chosen",
    "rejected",
  ]


def test_columns_and_running_means():
  rows = [
    {"step": 1, "a": 1.0},
    {"step": 2, "a": math.nan},
    {"step": 3},
    {"step": 4, "a": 3.0},
  ]
  steps, values = plots.column(rows, "a")
  assert steps.tolist() == [1, 4] and values.tolist() == [1.0, 3.0]
  values = np.random.default_rng(0).normal(size=300)
  smooth = plots.running_mean(values)
  half = 300 // 30 // 2
  for i in (0, 3, 150, 299):
    near = values[max(0, i - half) : i + half + 1]
    assert smooth[i] == pytest.approx(near.mean())
  assert plots.running_mean(values[:20]) is not None


def test_importance_bins_by_hand():
  rows = [
    {"importance": x, "logp_after": y}
    for x, y in [(3, -1), (0, -4), (1, -2), (2, -3)]
  ]
  got = plots.binned(rows, "logp_after", bins=2)
  # Of -4 and -2 the deviation is sqrt(2), of their mean sqrt(2) / sqrt(2).
  np.testing.assert_allclose(got, [[0.5, -3, 1], [2.5, -2, 1]])
  alone = plots.binned(rows[:1], "logp_after", bins=2)
  np.testing.assert_allclose(alone, [[3, -1, 0]])


def test_names_tell_workdirs_apart(tmp_path):
  folders = [str(tmp_path / p) for p in ("a/run", "b/run", "c/other")]
  assert report_.short_names(folders) == ["a/run", "b/run", "c/other"]
  assert report_.short_names(folders[1:]) == ["run", "other"]
  with pytest.raises(ValueError, match="twice"):
    report_.short_names(folders[:1] * 2)


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(SystemExit, match="error: .*metrics.jsonl not found"):
    report.main(["--workdir", str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("name", ["metrics", "eval", "importance", "config"])
def test_files_of_something_else_are_named(tmp_path, name):
  folder = write_run(tmp_path / "run")
  path = folder / f"{name}.json{'' if name == 'config' else 'l'}"
  path.write_text('{"x": 1}')
  with pytest.raises(ValueError, match=f"{path.name}.*: not "):
    report_.read_run(folder, "run")


def test_rows_that_are_lost_are_counted(tmp_path, capsys):
  folder = write_run(tmp_path / "run")
  report_.read_run(folder, "run")
  assert capsys.readouterr().err == ""
  path = folder / "metrics.jsonl"
  rows = path.read_text().splitlines(keepends=True)
  path.write_text("".join(rows[:50] + rows[51:-20]))  # whole lines
  saved = folder / "checkpoints" / "200"
  (saved / "state").mkdir(parents=True)
  (saved / "_CHECKPOINT_METADATA").write_text("{}")
  report_.read_run(folder, "run")
  said = "21 of the 200 rows up to update 200 are not there"
  assert said in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium")
@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_fits_its_window(written, tmp_path, width):
  """In a real browser: drawn, and not wider than the window."""
  _, page = written
  shot = tmp_path / "shot.png"
  command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
  command += ["--disable-quic", "--no-first-run", "--disable-sync"]
  command += ["--disable-background-networking", "--disable-component-update"]
  command += [f"--user-data-dir={tmp_path / 'profile'}"]
  command += [f"--window-size={width},1600", "--hide-scrollbars"]
  command += [f"--screenshot={shot}", page.as_uri()]
  subprocess.run(command, check=True, capture_output=True, timeout=120)
  from PIL import Image

  picture = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("L"))
  assert picture.shape == (1600, width)
  paper = picture[0, 0]
  assert (picture != paper).mean() > 0.02  # something is drawn
  assert (picture[:, -8:] == paper).all()  # and nothing runs out of the window
