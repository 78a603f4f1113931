"""Where runs of other families differ from the paper's, in configs/vdc.py.

Language models bring their chat format with the tokenizer.
"""

LANGUAGE_MODEL = dict(data=dict(template="tokenizer"))
QWEN_VL = dict(  # reads two frames at a time
  data=dict(template="qwen_vl", frame_buckets=(16,)), frames=dict(fixed=16)
)
QWEN_3_VL = dict(  # as its processor samples frames; the last fills a pair
  data=dict(template="qwen3_vl"),
  frames=dict(min_frames=4, frames_per_second=2.0, rounding="nearest"),
)
ONEVISION = dict(
  data=dict(template="tokenizer", max_len=4096), pixels=dict(resize="squash")
)
PEERS = {
  "llava_1_5_7b": dict(  # 576 positions a frame, 4,096 in all
    data=dict(template="vicuna", max_len=3200, frame_buckets=(4,)),
    frames=dict(fixed=4),
  ),
  "llava_next_video_7b": dict(data=dict(template="vicuna", max_len=3200)),
  "llava_onevision_7b": ONEVISION,
  "llava_video_7b": ONEVISION,
  "qwen2_vl_2b": QWEN_VL,
  "qwen2_vl_7b": QWEN_VL,
  "qwen2_5_vl_3b": QWEN_VL,
  "qwen2_5_vl_7b": QWEN_VL,
  "qwen2_5_vl_32b": QWEN_VL,
  "qwen2_5_vl_72b": QWEN_VL,
  "qwen3_vl_2b": QWEN_3_VL,
  "qwen3_vl_4b": QWEN_3_VL,
  "qwen3_vl_8b": QWEN_3_VL,
}
