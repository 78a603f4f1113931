"""All judged candidates as rows of lists: which stay, and what is counted."""

import json

from synpo_jax.data import lists, pairs
from synpo_jax.pairing import listing


def judged(name, captions, points, spoilt=()):
  """What assembly.write has of a video; points: None where one is missing."""
  row = {"id": name, "video": f"{name}.mp4", "question": "What?"}
  row |= {"captions": [*captions, *spoilt], "seed": 3}
  judgement = {"factuality": points, "judge": {"kind": "truth"}}
  judgement |= {"fluency": [0] * len(points), "consistency": [0] * len(points)}
  return row, {"captions": list(spoilt)} if spoilt else {}, judgement


def test_lists_hold_what_was_judged_and_differs(tmp_path):
  many = [f"caption {n}" for n in range(18)]
  counts = listing.write(
    tmp_path,
    {"config": "x"},
    [
      judged("a", ["A cat.", " ", "a  cat.", "B.", "C."], [1, 5, 2, None, 4]),
      judged("b", ["A.", "B."], [3, 3]),
      judged("c", ["A.", "B."], [3, 4, 0], ["spoilt"]),
      judged("d", many, [*range(18)]),
      judged("e", ["A.", "B."], [None, 3]),
    ],
  )
  assert counts == {
    "lists": 3,
    "captions_in_lists": 2 + 2 + 16,
    "captions_beyond_lists": 2,
  }
  first = json.loads((tmp_path / listing.FILE).read_text().splitlines()[0])
  assert first["captions"] == ["A cat.", "C."]
  assert first["scores"] == [1.1, 4.4]
  assert first["provenance"]["candidates"] == [0, 4]
  found = pairs.read_pairs(tmp_path / listing.FILE, captions=lists.MOST)
  assert [len(pair.listed.captions) for pair in found.pairs] == [2, 2, 16]
  assert found.pairs[1].listed == (("B.", "A."), (4.4, 3.3))
