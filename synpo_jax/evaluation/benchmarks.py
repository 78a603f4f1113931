"""The benchmarks by name; each file has one."""

from synpo_jax.evaluation import (
  events,
  keypoints,
  preference,
  shapes,
  vatex,
  vdc,
  vdd,
)

BENCHMARKS = {
  "vdc": vdc.BENCHMARK,
  "vdd": vdd.BENCHMARK,
  "vatex": vatex.BENCHMARK,
  "shapes": shapes.BENCHMARK,
  "events": events.BENCHMARK,
  "keypoints": keypoints.BENCHMARK,
  "preference": preference.BENCHMARK,
}
