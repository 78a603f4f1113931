"""Logits of an export by Transformers and PEFT; started as a process.

Of ours nothing is imported here: this is what others do with the files. PyTorch
takes seconds to import and is not wanted in our commands, so it has a process
of its own, which `weights/reloading.py` starts.
"""

import json
import sys
import warnings

import numpy as np
import peft
import torch
import transformers
from safetensors import safe_open

# Families that Transformers has no class for, and how it reads their decoder.
DECODERS = {
  None: "AutoModelForCausalLM",
  "auroracap": "AutoModelForCausalLM",
  "llava_video": "Qwen2ForCausalLM",
}
WORDS = 8  # tokens at the end of the prompt whose logits are returned


def main(request: str, arrays: str, answer: str) -> None:
  """Reads a request of `reloading.ask` from two files, answers in a third."""
  with open(request, encoding="utf-8") as file:
    said = json.load(file)
  with np.load(arrays) as held:
    np.savez(answer, **logits(said, dict(held)))


def logits(said: dict, held: dict) -> dict[str, np.ndarray]:
  """{"before", "after"}: float32 [WORDS, V] of the base and of the export.

  said: form, base, out, family (None: a language model), seconds_per_step.
  held: tokens [T], -1 where the video stands; pixels [F, Y, X, 3], or
  before and after [M, D], embeddings of a video that Transformers has no class
  for. Raises ValueError for an adapter of which PEFT leaves a part out.
  """
  base = _load(said["base"], said["family"])
  before = _run(base, said, held, "before")
  if said["form"] == "peft":
    after = _run(_adapted(base, said["out"]), said, held, "after")
  else:
    del base
    merged = _load(said["out"], said["family"])
    after = _run(merged, said, held, "after")
  return {"before": before, "after": after}


def _load(folder: str, family: str | None):
  """The folder's model, in float32."""
  kind = DECODERS.get(family, "AutoModelForImageTextToText")
  load = getattr(transformers, kind).from_pretrained
  options = dict(dtype=torch.float32, use_safetensors=True)
  return load(folder, local_files_only=True, **options).eval()


def _adapted(model, folder: str):
  """The model with an adapter, of which every tensor has found a place."""
  with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    adapted = peft.PeftModel.from_pretrained(model, folder).eval()
  placed = set(peft.get_peft_model_state_dict(adapted))
  with safe_open(f"{folder}/adapter_model.safetensors", "np") as file:
    lost = sorted(set(file.keys()) - placed)
  if lost:
    more = f" and {len(lost) - 1} more" * (len(lost) > 1)
    raise ValueError(f"PEFT has no place for {lost[0]}{more}")
  missing = [
    str(w.message) for w in told if "missing adapter" in str(w.message)
  ]
  if missing:
    raise ValueError(missing[0].splitlines()[0][:200])
  return adapted


def _run(model, said: dict, held: dict, state: str) -> np.ndarray:
  with torch.no_grad():
    inputs = _inputs(model, said, held, state)
    return model(**inputs).logits[0, -WORDS:].float().numpy()


def _inputs(model, said: dict, held: dict, state: str) -> dict:
  """Keyword arguments of the model, whose placeholders are its config's."""
  tokens = torch.tensor(held["tokens"])[None]
  is_video = tokens == -1
  if state in held:
    embeds = model.get_input_embeddings()(tokens.clamp(min=0))
    embeds[is_video] = torch.tensor(held[state])
    return dict(inputs_embeds=embeds)
  if "pixels" not in held:
    return dict(input_ids=tokens)
  clip = torch.tensor(held["pixels"]).permute(0, 3, 1, 2)
  if said["family"] == "llava":  # each frame is a picture
    ids = tokens.masked_fill(is_video, model.config.image_token_id)
    return dict(input_ids=ids, pixel_values=clip)
  ids = tokens.masked_fill(is_video, model.config.video_token_id)
  if not said["family"].startswith("qwen"):
    return dict(input_ids=ids, pixel_values_videos=clip[None])
  patches, grid = _patches(clip, model.config.vision_config)
  inputs = dict(input_ids=ids, pixel_values_videos=patches, video_grid_thw=grid)
  if said["family"] == "qwen2_5_vl":
    pace = torch.tensor([said["seconds_per_step"]])
    inputs["second_per_grid_ts"] = pace
  return inputs


def _patches(clip, vision):
  """Frames [F, 3, Y, X] as Qwen-VL's processors flatten them, and the grid."""
  size, merge = vision.patch_size, vision.spatial_merge_size
  together = vision.temporal_patch_size
  frames, _, height, width = clip.shape
  t, h, w = frames // together, height // size, width // size
  split = clip.reshape(
    t, together, 3, h // merge, merge, size, w // merge, merge, size
  )
  split = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
  return split.reshape(t * h * w, -1), torch.tensor([[t, h, w]])


if __name__ == "__main__":
  main(*sys.argv[1:])
