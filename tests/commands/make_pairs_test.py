import html
import io
import json
import shutil
import threading

import numpy as np
import pytest
from rich import console

from synpo_jax import make_pairs
from synpo_jax.data import pairs as reading
from synpo_jax.data import prompts
from synpo_jax.judging import trial
from synpo_jax.judging.judge import JUDGE
from synpo_jax.pairing import criteria, ledger, terminal, worth
from synpo_jax.runtime import journal
from tests.support import fake_pairs, known_answers
from tests.support.judge_server import chat, serve


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
  """Six small clips and a file that is none."""
  return fake_pairs.clips(tmp_path_factory.mktemp("videos"))


def lines(workdir, name):
  return [json.loads(s) for s in (workdir / name).read_text().splitlines()]


def make(videos, workdir, behave=fake_pairs.honest, **judge):
  with serve(behave) as (url, log):
    c = fake_pairs.config(videos, url, **judge)
    return make_pairs.run(c, workdir, fake_pairs.open_writer), log


@pytest.fixture(scope="module")
def done(videos, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("done")
  summary, log = make(videos, workdir)
  return workdir, summary, log


# The whole pipeline


def test_pairs_follow_from_the_judge_s_scores(done):
  workdir, summary, _ = done
  candidates = {row["id"]: row for row in lines(workdir, "candidates.jsonl")}
  rows = lines(workdir, "pairs.jsonl")
  assert len(rows) == summary["pairs"] == 6
  for row in rows:
    captions = candidates[row["id"]]["captions"]
    scores = [
      1.1 * fake_pairs.verdict("factuality", text)
      + fake_pairs.verdict("fluency", text)
      + fake_pairs.verdict("consistency", text)
      for text in captions
    ]
    best = int(np.argmax(scores))
    worst = int(np.argmin(scores))
    assert (row["chosen"], row["rejected"]) == (captions[best], captions[worst])
    np.testing.assert_allclose(row["chosen_score"], scores[best])
    np.testing.assert_allclose(row["rejected_score"], scores[worst])


def test_lists_hold_the_candidates_of_the_pairs_and_all_others(done):
  workdir, summary, _ = done
  listed = {row["id"]: row for row in lines(workdir, "lists.jsonl")}
  rows = lines(workdir, "pairs.jsonl")
  assert summary["lists"] == len(listed) == len(rows)
  for row in rows:
    whole, origin = listed[row["id"]], row["provenance"]
    assert whole["scores"] == origin["scores"]["total"]
    places = [whole["captions"].index(row[x]) for x in ("chosen", "rejected")]
    assert places == [*origin["candidates"].values()]
    assert all(whole[key] == row[key] for key in ("video", "question"))
  assert " captions of 6 videos." in terminal.sentence(summary)


def test_rows_carry_where_they_come_from(done):
  workdir, _, log = done
  row = lines(workdir, "pairs.jsonl")[0]
  origin = row["provenance"]
  assert origin["judge"]["model"] == "stub"
  assert origin["judge"]["version"] == criteria.VERSION
  assert origin["prompts"] == prompts.PROMPTS_VERSION
  assert set(origin["config"]) == {"segments", "clips", "candidates", "judge"}
  assert {"model", "seed", "negative", "scores"} <= origin.keys()
  assert all(len(scores) == 4 for scores in origin["scores"].values())
  for path in workdir.iterdir():
    assert b"sk-secret" not in path.read_bytes()
  assert log.headers[0]["authorization"] == "Bearer sk-secret"


def test_pairs_are_shown_in_a_terminal_that_obeys_nothing(done, tmp_path):
  rows = lines(done[0], "pairs.jsonl")
  rows[0]["chosen"] = "\x1b[2JA red [bold]ball[/bold]."
  (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
  for width in (60, 120):
    out = console.Console(width=width, record=True, file=io.StringIO())
    terminal.show_sample(out, tmp_path, 3)
    shown = out.export_text()
    assert "\x1b[2J" not in shown and "[bold]ball[/bold]" in shown
    assert shown.count("chosen ") == shown.count("rejected ") == 3


def test_what_pairs_are_worth_stands_beside_them(done):
  workdir, summary, _ = done
  report = json.loads((workdir / worth.FILE).read_text())
  rows = lines(workdir, "pairs.jsonl")
  longer = [len(row["chosen"]) > len(row["rejected"]) for row in rows]
  assert report["pairs"] == 6 and longer.count(True) not in (0, 6)
  assert report["length"]["unit"] == "words and marks"
  assert report["copies"] == {"exact": 0, "near": 0, "alike": 0}
  assert summary["next"] == report["next"]
  told = (workdir / "pairs.html").read_text()
  assert html.escape(f"Next: {report['next']}") in told
  out = console.Console(width=200, record=True, file=io.StringIO())
  terminal.show_summary(out, summary, workdir)
  assert f"Next: {report['next']}" in " ".join(out.export_text().split())


def test_training_takes_the_pairs_unchanged(done):
  found = reading.read_pairs(
    done[0] / "pairs.jsonl", question=None, captions=2, min_score_gap=0.0
  )
  assert len(found.pairs) == 6
  assert found.pairs[0].video == found.pairs[0].id == "deep/v0.mp4"


def test_what_cannot_be_read_is_named(done):
  faults = done[1]["unreadable"]
  assert list(faults) == ["deep/broken.mp4"]
  assert "broken.mp4" in faults["deep/broken.mp4"]


def test_nothing_but_broken_videos_is_an_error(tmp_path):
  (tmp_path / "a.mp4").write_bytes(b"no video")
  c = fake_pairs.config(tmp_path)
  with pytest.raises(ValueError, match=r"no video can be read.*a\.mp4"):
    make_pairs.run(c, tmp_path / "run", fake_pairs.open_writer)


def test_a_second_run_changes_and_asks_nothing(done, videos, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(done[0], workdir)
  before = {p.name: p.read_bytes() for p in workdir.iterdir()}
  summary, log = make(videos, workdir)
  assert not log.bodies
  assert {p.name: p.read_bytes() for p in workdir.iterdir()} == before
  assert summary == done[1]


def test_rows_are_known_by_their_own_mark(done, videos, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(done[0], workdir)
  lost = workdir / ledger.SETTINGS
  lost.unlink()
  other = fake_pairs.config(videos)
  other.seed = 5
  said = "clips.jsonl: the row of deep/v0.mp4 was made with other settings"
  with pytest.raises(ValueError, match=said):
    make_pairs.run(other, workdir, fake_pairs.open_writer)
  shutil.copytree(done[0], workdir, dirs_exist_ok=True)
  held = list(ledger.made_with(workdir).values())
  journal.renew(lost, [row | {"hash": "0" * 12} for row in held])
  other.stages = "pairs"
  with pytest.raises(ValueError, match="candidates.jsonl: the row of"):
    make_pairs.run(other, workdir, fake_pairs.open_writer)
  lost.unlink()
  summary, _ = make(videos, workdir)  # the same settings are no others
  assert summary == done[1]


def test_added_videos_extend_every_file(done, videos, tmp_path):
  some = tmp_path / "videos"
  shutil.copytree(videos, some)
  late = some / "deep" / "v1.mp4"
  late.rename(tmp_path / "late.mp4")
  make(some, tmp_path / "run")
  first = {
    name: (tmp_path / "run" / name).read_bytes()
    for name in ledger.FILES.values()
  }
  (tmp_path / "late.mp4").rename(late)
  make(some, tmp_path / "run")
  for name, before in first.items():
    assert (tmp_path / "run" / name).read_bytes().startswith(before)
    ids = [row["id"] for row in lines(tmp_path / "run", name)]
    assert sorted(ids) == [f"deep/v{i}.mp4" for i in range(6)]
    assert ids[-1] == "deep/v1.mp4"
  by_id = lambda rows: sorted(rows, key=lambda row: row["id"])  # noqa: E731
  assert by_id(lines(tmp_path / "run", "pairs.jsonl")) == by_id(
    lines(done[0], "pairs.jsonl")
  )


def test_each_stage_runs_alone(done, videos, tmp_path):
  with serve(fake_pairs.honest) as (url, _):
    for stage in ledger.FILES:
      c = fake_pairs.config(videos, url)
      c.stages = stage
      make_pairs.run(c, tmp_path, fake_pairs.open_writer)
  for name in ledger.FILES.values():
    assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes()


def test_a_stage_without_its_forerunner_says_so(videos, tmp_path):
  c = fake_pairs.config(videos)
  c.stages = "candidates"
  with pytest.raises(FileNotFoundError, match="run the stage 'segments' first"):
    make_pairs.run(c, tmp_path, fake_pairs.open_writer)
  for c.stages in ("judge", "pairs"):
    with pytest.raises(FileNotFoundError, match="run that stage first"):
      make_pairs.run(c, tmp_path, fake_pairs.open_writer)


@pytest.mark.parametrize(
  "wrong, message",
  [
    (dict(kind="oracle"), "choose openai or truth"),
    (dict(openai=dict(model="")), "judge.model or API_MODEL"),
    (dict(openai=dict(base_url="localhost:1")), "API_URL is no address"),
    (dict(openai=dict(key="sk secret")), "judge.key or API_KEY"),
    (dict(openai=dict(key="")), "neither address nor key"),
    (dict(kind="truth"), "judge.truth.scenes"),
  ],
)
def test_a_judge_that_cannot_be_is_refused_before_all_work(
  videos, tmp_path, monkeypatch, wrong, message
):
  for name in (*JUDGE.models, *JUDGE.urls, *JUDGE.keys):
    monkeypatch.delenv(name, raising=False)
  c = fake_pairs.config(videos)
  c.judge.update(wrong)
  with pytest.raises((ValueError, OSError), match=message):
    make_pairs.run(c, tmp_path / "run", fake_pairs.open_writer)
  assert not (tmp_path / "run").exists()


def test_other_settings_in_the_same_workdir_are_refused(done, videos):
  c = fake_pairs.config(videos, "http://127.0.0.1:9/v1")
  c.candidates.temperature = 0.5
  with pytest.raises(ValueError, match="temperature: 0.9 then, 0.5 now"):
    make_pairs.run(c, done[0], fake_pairs.open_writer)


def test_the_rule_for_pairs_may_change_at_any_time(done, videos, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(done[0], workdir)
  c = fake_pairs.config(videos)
  c.stages, c.pairs.negative = "pairs", "second_worst"
  make_pairs.run(c, workdir, fake_pairs.open_writer)
  for old, new in zip(
    lines(done[0], "pairs.jsonl"), lines(workdir, "pairs.jsonl"), strict=True
  ):
    assert old["chosen"] == new["chosen"] and old["rejected"] != new["rejected"]


def test_pairs_stay_whose_gap_is_between_quantiles(done, videos, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(done[0], workdir)
  gap = lambda row: row["chosen_score"] - row["rejected_score"]  # noqa: E731
  gaps = sorted(map(gap, lines(workdir, "pairs.jsonl")))
  assert len({*gaps}) == 6  # so 0.3 and 0.9 are within the 2nd and 5th step
  c = fake_pairs.config(videos)
  c.stages, c.pairs.keep_gaps = "pairs", (0.3, 0.9)
  summary = make_pairs.run(c, workdir, fake_pairs.open_writer)
  rows = lines(workdir, "pairs.jsonl")
  assert sorted(map(gap, rows)) == gaps[2:5]
  assert rows[0]["provenance"]["keep_gaps"] == [0.3, 0.9]
  below, above = "gap below the 0.3 quantile", "gap above the 0.9 quantile"
  assert summary["dropped"] == {below: 2, above: 1}
  assert summary["pairs"] == 3
  c.pairs.keep_gaps = (0.9, 0.3)
  with pytest.raises(ValueError, match=r"pairs.keep_gaps: \(low, high\) must"):
    make_pairs.run(c, workdir, fake_pairs.open_writer)


def test_processes_share_the_captioning(done, videos, tmp_path):
  c = fake_pairs.config(videos)
  c.stages = "segments,clips,candidates"
  for index in (1, 0, 2):
    share = ledger.Share(index, 3)
    make_pairs.run(c, tmp_path, fake_pairs.open_writer, share)
  parts = [lines(tmp_path, f"clips.{i}-of-3.jsonl") for i in range(3)]
  assert sorted(row["id"] for part in parts for row in part) == [
    f"deep/v{i}.mp4" for i in range(6)
  ]
  assert max(map(len, parts)) < 6
  with pytest.raises(ValueError, match="run --config.stages=judge,pairs as"):
    c.stages = "judge"
    make_pairs.run(c, tmp_path, fake_pairs.open_writer, ledger.Share(0, 3))
  summary, _ = make(videos, tmp_path)
  assert summary["rows"] == dict.fromkeys(ledger.FILES, 6)
  by_id = lambda rows: sorted(rows, key=lambda row: row["id"])  # noqa: E731
  name = "pairs.jsonl"
  assert by_id(lines(tmp_path, name)) == by_id(lines(done[0], name))


def test_repeats_are_averaged_and_their_spread_is_told(videos, tmp_path):
  """The judge's seed decides its scores; a question's first has none."""

  def behave(n, body):
    kind = fake_pairs.kind_of(body["messages"][-1]["content"])
    if known_answers.reply(body) or kind == "consistency":
      return fake_pairs.honest(n, body)
    seed = body.get("seed", 0)
    wrong = kind == "fluency" and seed == 2
    return chat("none" if wrong else f'{{"score": {(1, 2, 5)[seed]}}}')

  with serve(behave) as (url, log):
    c = fake_pairs.config(videos, url, repeats=3, asks=1)
    c.videos = "deep/v0.mp4"
    summary = make_pairs.run(c, tmp_path, fake_pairs.open_writer)
    assert summary["judge"]["calls"] == len(log.bodies) == 8 + 3 * 9
    c.judge.openai.repeats = 1
    with pytest.raises(ValueError, match="repeats: 3 then, 1 now"):
      make_pairs.run(c, tmp_path, fake_pairs.open_writer)
  (row,) = lines(tmp_path, "judgements.jsonl")
  assert row["factuality"] == [pytest.approx(8 / 3)] * 4  # of 1, 2 and 5
  assert row["spread"]["factuality"] == [pytest.approx((13 / 3) ** 0.5)] * 4
  assert row["fluency"] == [1.5] * 4 and row["repeats"] == 3
  assert row["spread"]["fluency"] == [pytest.approx(0.5**0.5)] * 4
  assert row["spread"]["consistency"] == [0.0] * 4
  assert summary["judge_spread"] == {
    "repeats": 3,
    "factuality": pytest.approx((13 / 3) ** 0.5),
    "fluency": pytest.approx(0.5**0.5),
    "consistency": 0.0,
  }
  lost = [(m["criterion"], m["candidate"], m["repeat"]) for m in row["missing"]]
  assert lost == [("fluency", candidate, 2) for candidate in range(4)]


# A judge that fails


def upside_down(n, body):
  """Gives each known item what it must not have, and all else a 3."""
  known = known_answers.reply(body)
  score = 3
  if known and '\\"score\\": ' in known[2]:
    score = 5 if '\\"score\\": 0' in known[2] else 0
  return chat(json.dumps({"score": score}))


def test_a_judge_that_fails_its_trial_scores_nothing(videos, tmp_path):
  with serve(upside_down) as (url, log):
    c = fake_pairs.config(videos, url, asks=1)
    with pytest.raises(trial.Failed) as said:
      make_pairs.run(c, tmp_path, fake_pairs.open_writer)
    head, *below = str(said.value).split("\n")
    assert head == (
      f"judge: stub at {url} answers 8 of 8 known items wrongly, where 0 may "
      "be; nothing was scored. Take another judge, or let it pass with "
      "judge.may_fail=8"
    )
    assert below[0] == (
      "  factuality of a right caption: wanted 4 or more, replied "
      "'{\"score\": 0}'"
    )
    assert len(below) == len(log.bodies) == 8
    assert not ledger.path(tmp_path, "clips").exists()
    held = json.loads((tmp_path / trial.RESULT).read_text())
    assert (held["failed"], held["may_fail"]) == (8, 0)
    c.judge.openai.may_fail = 8
    c.stages = "segments,clips,candidates,judge"
    summary = make_pairs.run(c, tmp_path, fake_pairs.open_writer)
    assert summary["judge_trial"]["failed"] == 8
    out = console.Console(width=200, file=io.StringIO())
    terminal.show_summary(out, summary, tmp_path)
    assert "judge stub: 0 of 8 known items right" in out.file.getvalue()
    assert summary["judge"]["calls"] == len(log.bodies) == 8 + 6 * 9


def failing(picky):
  """Fails for some candidates; `picky(kind, captions)` says how, or None."""

  def behave(n, body):
    if known := known_answers.reply(body):
      return known
    text = body["messages"][-1]["content"]
    wrong = picky(fake_pairs.kind_of(text), fake_pairs.CAPTION.findall(text))
    return fake_pairs.honest(n, body) if wrong is None else wrong

  return behave


def test_a_candidate_without_a_judgement_is_left_out(done, videos, tmp_path):
  spoilt = lines(done[0], "pairs.jsonl")[0]["rejected"]
  behave = failing(
    lambda kind, captions: (
      chat('{"score": 99}')
      if kind == "factuality" and captions[0] == spoilt
      else None
    )
  )
  summary, _ = make(videos, tmp_path, behave)
  assert summary["excluded"] == {"factuality unusable": 1}
  row = lines(tmp_path, "judgements.jsonl")[0]
  (lost,) = row["missing"]
  assert lost["criterion"] == "factuality"
  assert row["factuality"][lost["candidate"]] is None
  assert row["fluency"][lost["candidate"]] is not None
  pair = lines(tmp_path, "pairs.jsonl")[0]
  assert spoilt not in (pair["chosen"], pair["rejected"])


def test_without_consistency_there_is_no_pair(videos, tmp_path):
  behave = failing(
    lambda kind, captions: (
      chat('{"1": 3, "2": 2, "3": 1}') if kind == "consistency" else None
    )
  )
  summary, _ = make(videos, tmp_path, behave)
  assert summary["pairs"] == 0
  assert summary["dropped"] == {"fewer than two judged candidates": 6}
  assert summary["excluded"] == {"consistency unusable": 24}
  assert "0 pairs from 6" in (tmp_path / "pairs.html").read_text()


def test_what_was_unavailable_is_asked_again_later(done, videos, tmp_path):
  behave = failing(
    lambda kind, captions: (500, {}, "") if kind == "fluency" else None
  )
  summary, _ = make(videos, tmp_path, behave, tries=2, schema="none")
  assert summary["pairs"] == 0
  assert summary["excluded"] == {"fluency unavailable": 24}
  _, log = make(videos, tmp_path)
  assert len(log.bodies) == 24
  name = "pairs.jsonl"
  assert (tmp_path / name).read_bytes() == (done[0] / name).read_bytes()


def test_a_row_that_is_told_late_is_judged_once(done, videos, tmp_path):
  """It was in the file already when the judge began to look."""
  workdir = tmp_path / "copy"
  shutil.copytree(done[0], workdir)
  for name in ("judgements.jsonl", "judge_cache.jsonl"):
    (workdir / name).unlink()
  late = lines(workdir, "candidates.jsonl")
  with serve(fake_pairs.honest) as (url, log):
    c = fake_pairs.config(videos, url)
    make_pairs._judge(c, workdir, iter([None, *late[:2]]))
  known = sum(known_answers.reply(body) is not None for body in done[2].bodies)
  assert len(log.bodies) == len(done[2].bodies) - known  # the trial is cached
  name = "judgements.jsonl"
  assert (workdir / name).read_bytes() == (done[0] / name).read_bytes()


def test_candidates_are_judged_while_others_grow(videos, tmp_path, done):
  """The writer waits, at the fourth video, for replies on the first."""
  asked = threading.Event()

  def behave(n, body):
    if not known_answers.reply(body):
      asked.set()
    return fake_pairs.honest(n, body)

  class Waiting(fake_pairs.Writer):
    def write(self, shots, ask):
      for number, captioned in enumerate(super().write(shots, ask)):
        if number == 3 and captioned.part is None:
          assert asked.wait(30)
        yield captioned

  with serve(behave) as (url, log):
    c = fake_pairs.config(videos, url)
    make_pairs.run(c, tmp_path, lambda placing, **model: Waiting())
    assert len(log.bodies) == len(done[2].bodies)  # nothing twice
  for name in ("judgements.jsonl", "pairs.jsonl"):
    assert lines(tmp_path, name) == lines(done[0], name)
