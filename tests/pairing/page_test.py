import html
import json
import re
import shutil
import subprocess

import pytest

from synpo_jax.pairing import page
from tests.support import fake_pairs

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--virtual-time-budget=3000""".split()
NASTY = (
  '<script>document.title="bad"</script>"><img src=x onerror=alert(1)>&amp;'
)


def pair(name, chosen, rejected, high, low):
  """A row of pairs.jsonl with what the page reads."""
  scores = {n: [5, 1] for n in ("factuality", "fluency", "consistency")}
  places = {"chosen": 0, "rejected": 1}
  return dict(
    id=name,
    video=name,
    question=f"What is this? {NASTY}",
    chosen=chosen,
    rejected=rejected,
    chosen_score=high,
    rejected_score=low,
    provenance=dict(scores=scores, candidates=places),
  )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """A page of six pairs; gaps 1 to 11 by twos; one video is not there."""
  folder = tmp_path_factory.mktemp("page")
  fake_pairs.clip(folder / "a.mp4", 12, 90)
  rows = [
    pair("a.mp4", f"A red {NASTY}", f"A blue {NASTY}", 12.0 - i, 11.0 - 3 * i)
    for i in range(3)
  ]
  rows += [
    pair("gone.mp4", "A dog runs.", "The dog sits still.", 13.0, 6.0 - 2 * i)
    for i in range(3)
  ]
  page.write(folder / "pairs.html", rows, f"6 pairs {NASTY}", folder, limit=9)
  return folder / "pairs.html", rows


def test_the_page_fetches_nothing_and_escapes_everything(made):
  text = made[0].read_text()
  for source in re.findall(r'src\s*=\s*"([^"]{0,30})', text):
    assert source.startswith("data:image/jpeg;base64,")
  body = re.sub(r"base64,[^\"]*", "", text)
  assert "http" not in body.replace("http-equiv", "")
  assert "@import" not in body and "url(" not in body and "<link" not in body
  assert body.count("<script") == 1  # our own
  assert "<img src=x" not in body and html.escape(NASTY) in body
  assert body.count("data:image/jpeg;") == 3 * page.FRAMES
  assert body.count("The video cannot be read.") == 3


def test_histograms_count_every_pair(made):
  text, rows = made[0].read_text(), made[1]
  charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
  both = ("good", "bad")
  for chart, classes in zip(charts, (both, ("mark",), both), strict=True):
    for name in classes:
      bars = rf'class="{name}"[^>]*><title>(\d+)<'
      assert sum(map(int, re.findall(bars, chart))) == len(rows)


def test_a_page_of_no_pairs_counts_none(tmp_path):
  page.write(tmp_path / "p.html", [], "0 pairs.", tmp_path, limit=3)
  text = (tmp_path / "p.html").read_text()
  assert text.count("tallest: 0") == 3 and "<article" not in text


def test_more_pairs_than_the_limit_are_thinned_and_said_so(made, tmp_path):
  rows = [pair("gone.mp4", "a b", "a c", 9.0, float(i)) for i in range(8)]
  page.write(tmp_path / "p.html", rows, "8 pairs.", tmp_path, limit=3)
  text = (tmp_path / "p.html").read_text()
  assert text.count("<article") == 3
  assert "The page shows 3 of them" in text


def test_differences_join_to_the_texts_and_mark_what_is_only_there():
  chosen, rejected = " A red ball rolls,  then stops.\n", "a blue ball stops."
  left, right = page.differences(chosen, rejected)
  assert "".join(piece for piece, _ in left) == chosen
  assert "".join(piece for piece, _ in right) == rejected
  assert [piece for piece, own in left if own] == ["red", "rolls,  then"]
  assert [piece for piece, own in right if own] == ["blue"]


def browse(path, tmp_path, script=""):
  """The page's DOM after `script` ran in headless Chromium."""
  copy = tmp_path / "copy.html"
  text = path.read_text()
  copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
  command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
  done = subprocess.run(
    [*command, "--dump-dom", copy.as_uri()],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert "</html>" in done.stdout, done.stderr[-2000:]
  return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_filter_hides_smaller_gaps_in_a_browser(made, tmp_path):
  script = """
  const seen = [];
  for (const least of [0, 1, 3.1, 7, 9.1, 13.5]) {
    slider.value = least;
    slider.dispatchEvent(new Event("input"));
    seen.push([least, cards.map(c => c.offsetParent !== null),
      document.getElementById("count").value,
      document.getElementById("none").hidden]);
  }
  document.body.dataset.seen = JSON.stringify([seen,
    document.documentElement.scrollWidth <= innerWidth, document.images[0]
    .naturalWidth, document.title]);
  """
  dom = browse(made[0], tmp_path, script)
  found = re.search(r'data-seen="([^"]*)"', dom).group(1)
  seen, fits, width, title = json.loads(html.unescape(found))
  gaps = [row["chosen_score"] - row["rejected_score"] for row in made[1]]
  for least, shown, count, none_hidden in seen:
    wanted = [gap >= least - 1e-9 for gap in gaps]
    assert shown == wanted
    assert count == f"{sum(wanted)} of {len(gaps)} shown"
    assert none_hidden == any(wanted)
  assert fits and width == page.WIDTH and title == "Preference pairs"
