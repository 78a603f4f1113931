"""Frames as a tower takes them, against the official pixels."""

import functools

import numpy as np
import pytest

from synpo_jax.data import video
from tests.support.paths import GOLDEN


@pytest.mark.parametrize("case", range(4))
def test_preprocessing_equals_the_official_pixels(case):
  golden = np.load(GOLDEN / "preprocess.npz")
  pixels = video.preprocess(
    golden[f"image/{case}"], video.Preprocess(size=(378, 378))
  )
  assert pixels.dtype == np.uint8 and pixels.shape == (378, 378, 3)
  ours = (pixels * golden["rescale"] - golden["mean"]) / golden["std"]
  ours = ours.transpose(2, 0, 1)
  # One grey level is 0.0146 here: the tolerance allows rounding only (3e-7).
  same = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
  same(ours[:, ::9, ::9], golden[f"grid/{case}"])
  same(ours[:, :40, -40:], golden[f"crop/{case}"])
  same(ours[:, 173:205, 173:205], golden[f"centre/{case}"])
  same(ours.mean(axis=(1, 2)), golden[f"channel_mean/{case}"])
  same(ours.std(axis=(1, 2)), golden[f"channel_std/{case}"])


def test_crop_keeps_shape_and_centre_and_squash_keeps_all():
  picture = np.zeros((40, 80, 3), np.uint8)
  picture[:, 40:] = 255
  cut = video.preprocess(picture, video.Preprocess((20, 20), "crop"))
  assert cut[:, :8].max() < 9 and cut[:, 12:].min() > 246
  picture = np.zeros((40, 80, 3), np.uint8)
  picture[:, :10] = 255  # outside of the centre
  cut = video.preprocess(picture, video.Preprocess((20, 20), "crop"))
  whole = video.preprocess(picture, video.Preprocess((20, 30), "squash"))
  assert cut.max() == 0
  assert whole.shape == (20, 30, 3) and whole[:, :3].min() > 200
  tall = video.preprocess(picture, video.Preprocess((30, 10), "crop"))
  assert tall.shape == (30, 10, 3)


@pytest.mark.parametrize("wrong", [dict(resize="fit"), dict(resample="area")])
def test_pixels_that_make_no_sense_are_refused(wrong):
  with pytest.raises(ValueError, match=f"pixels.{[*wrong][0]}=.*choose one"):
    video.Preprocess((8, 8), **wrong)
