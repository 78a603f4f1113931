"""VATEX: short captions against ten references per video.

References are English or Chinese (`LANGUAGES`); Chinese is counted by letter.
"""

import json
import pathlib

from synpo_jax.evaluation import caption_metrics, meteor
from synpo_jax.evaluation.items import Benchmark, Item, limited, one_file
from synpo_jax.evaluation.tokenizer import is_cjk, is_unspaced, tokenize
from synpo_jax.runtime import buckets
from synpo_jax.runtime.jsonl import lines
from synpo_jax.runtime.terminal import together

LANGUAGES = {"en": "enCap", "zh": "chCap"}
ALONE = (
  "0 by its formula, which weighs words by how few videos' references hold "
  "them: score two videos or more"
)


def read_references(
  path: str | pathlib.Path, language: str = "en"
) -> dict[str, list[str]]:
  """{video: references} of a JSON list or JSONL rows {"videoID", "enCap"}.

  language: a key of LANGUAGES. "video" and "references" are read as well.
  Raises ValueError with every faulty row.
  """
  if language not in LANGUAGES:
    known = ", ".join(LANGUAGES)
    raise ValueError(f"data.language={language!r}: choose one of {known}")
  field = LANGUAGES[language]
  path = buckets.at(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} not found: data.references names the rows")
  references, faults = {}, []
  for number, row in enumerate(_rows(path), 1):
    try:
      name = row["videoID"] if "videoID" in row else row["video"]
      texts = row[field] if field in row else row["references"]
    except (KeyError, TypeError):
      faults.append(f"{path} row {number}: needs videoID and {field}")
      continue
    if not isinstance(name, str):
      faults.append(f"{path} row {number}: videoID {name!r} is not a text")
      continue
    if (
      not isinstance(texts, list)
      or not texts
      or not all(isinstance(text, str) for text in texts)
    ):
      faults.append(f"{path} row {number}: {field} is not a list of captions")
    elif any(map(is_unspaced, texts)):
      faults.append(
        f"{path} row {number}: {field} is in a script without spaces between "
        "words, of which captions cannot be scored"
      )
    if name in references:
      faults.append(f"{path} row {number}: video {name!r} is there twice")
    references[name] = texts
  if faults:
    raise ValueError(together(path, faults))
  return references


def _rows(path):
  held = path.read_bytes()
  try:
    if held.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
      return json.loads(held)
    return [json.loads(line) for _, line in lines(path)]
  except ValueError as error:
    raise ValueError(f"{path}: not JSON ({error})") from None


def score(
  references: dict[str, list[str]], captions: dict[str, str]
) -> tuple[list[dict], dict]:
  """(rows, corpus scores times 100) of one caption per video.

  Document frequencies come from the references of the videos scored. METEOR
  is null, with the reason, where its program cannot run.
  """
  videos = list(captions)
  ours = [tokenize(captions[name]) for name in videos]
  gold = [[tokenize(text) for text in references[name]] for name in videos]
  cider, ciders = caption_metrics.cider_d(ours, gold)
  rouge, rouges = caption_metrics.rouge_l(ours, gold)
  summary = {"CIDEr-D": 100 * cider, "ROUGE-L": 100 * rouge}
  for n, value in enumerate(caption_metrics.bleu(ours, gold), 1):
    summary[f"BLEU-{n}"] = 100 * value
  if len(videos) == 1:
    summary["CIDEr-D_note"] = ALONE
  reason = meteor.missing()
  if any(is_cjk(text) for name in videos for text in references[name]):
    reason = "its tables are English, the references are not"
  summary["METEOR"] = None if reason else 100 * meteor.meteor(ours, gold)[0]
  if reason:
    summary["METEOR_missing"] = reason
  words = sum(map(len, ours)) / len(ours)
  summary |= caption_metrics.variety(ours)
  summary |= {"words": words, "videos": len(videos)}
  rows = [
    {
      "id": name,
      "video": name,
      "caption": captions[name],
      "CIDEr-D": 100 * own_cider,
      "ROUGE-L": 100 * own_rouge,
    }
    for name, own_cider, own_rouge in zip(videos, ciders, rouges, strict=True)
  ]
  return rows, summary


def list_items(c, prompts) -> list[Item]:
  """One short caption per video."""
  references = read_references(c.data.references, c.data.language)
  return [
    Item(video, video, "", tuple(c.data.prompts))
    for video in limited(references, c.limit)
  ]


def score_captions(c, items, captions, prompts, ask):
  """CIDEr-D and its kin; nobody is asked."""
  references = read_references(c.data.references, c.data.language)
  rows, summary = score(references, captions)
  return rows, summary, None


BENCHMARK = Benchmark(
  list_items, score_captions, one_file, "words shared with the references"
)
