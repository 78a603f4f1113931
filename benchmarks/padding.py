"""How much of what a step computes is padding, by the buckets of a config.

python -m benchmarks.padding         writes its table into benchmarks/README.md

10,000 pairs of captions whose lengths are lognormal, behind prompts of 8 or 16
frames of 110 tokens, or of 8 to 16 (one in two seconds of videos of 22 s, the
median). A row is its prompt and two captions as long as the longer one; or, of
a fixed length, as many pairs as data.packing puts there end to end.
"""

import numpy as np

from benchmarks import sections
from synpo_jax.data import packing, padding

PAIRS, TEXT, FRAME = 10_000, 36, 110  # pairs; tokens of a question, of a frame
WORKLOADS = ((8, 230, 90), (8, 500, 150), (None, 230, 90), (16, 230, 90))
COARSE = (128, (128, 256, 384, 512, 768), 8)
WAYS = (COARSE, (16, 32, 8), (16, 32, 16))  # prompts, captions, shapes
LENGTHS = (4096, 8192)  # of rows that pairs share


def rows(frames: int | None, mean: float, deviation: float):
  """(prompts [N], captions [N, 2], frames [N]) of a workload, in tokens."""
  rng = np.random.default_rng(0)
  spread = np.log(1 + (deviation / mean) ** 2)
  drawn = rng.lognormal(np.log(mean) - spread / 2, spread**0.5, (PAIRS, 2))
  captions = np.clip(drawn.round().astype(int), 16, 768)
  seconds = rng.lognormal(np.log(22), 0.6, PAIRS)
  shown = np.clip((seconds / 2).round().astype(int), 8, 16)
  shown = shown if frames is None else np.full(PAIRS, frames)
  return TEXT + FRAME * shown + rng.integers(0, 20, PAIRS), captions, shown


def share(workload, prompts, responses, shapes: int) -> tuple[float, int]:
  """(needed over computed positions, shapes of batches) of a workload."""
  prefix, captions, frames = rows(*workload)
  sizes = np.stack(
    [
      padding.round_up(prefix, prompts),
      padding.round_up(captions.max(axis=1), responses),
      padding.round_up(frames, (8, 16)),
    ],
    axis=1,
  )
  sizes = padding.joined(sizes, 2, shapes)
  needed = (prefix + captions.sum(axis=1)).sum()
  computed = (sizes[:, 0] + 2 * sizes[:, 1]).sum()
  return needed / computed, len(np.unique(sizes, axis=0))


def packed(workload, length: int) -> tuple[float, float]:
  """(needed over computed positions, pairs in a row) of a workload."""
  prefix, captions, _ = rows(*workload)
  sizes = prefix + captions.sum(axis=1)
  count = len(packing.bins(sizes, length, seed=0))
  return sizes.sum() / (count * length), len(sizes) / count


def text() -> str:
  """The table."""
  table = [["frames, caption"]]
  for prompts, captions, most in WAYS:
    step = captions if isinstance(captions, int) else "128 to 768"
    table[0].append(f"prompts by {prompts}, captions by {step}, {most} shapes")
  table[0] += [f"packed in rows of {length}" for length in LENGTHS]
  for frames, mean, deviation in WORKLOADS:
    cells = [f"{frames or '8 to 16'}, {mean} ± {deviation}"]
    for way in WAYS:
      found, shapes = share((frames, mean, deviation), *way)
      cells.append(f"{found:.3f} ({shapes})")
    for length in LENGTHS:
      found, pairs = packed((frames, mean, deviation), length)
      cells.append(f"{found:.3f} ({pairs:.1f} pairs)")
    table.append(cells)
  return sections.table(table)


if __name__ == "__main__":
  sections.put(sections.README, "padding", text())
