"""How each family of language models writes its `config.json`.

One function per family returns what sets it apart; the rest is common.
"""

from synpo_jax.weights.config_defaults import ACTIVATIONS, DEFAULTS


def decoder_fields(hf: dict) -> dict:
  """`DecoderConfig`'s arguments, `rope_scaling` as `RopeScaling`'s or None."""
  family = hf.get("model_type")
  if family not in FAMILIES:
    known = ", ".join(FAMILIES)
    raise ValueError(f"model_type {family!r} is not one of {known}")
  c = {**DEFAULTS[family], **hf, **_rope_fields(hf)}
  _check(c)
  heads = c["num_attention_heads"]
  kv_heads = c.get("num_key_value_heads") or heads
  head_dim = c.get("head_dim") or c["hidden_size"] // heads
  if head_dim % 2:
    raise ValueError(f"head_dim {head_dim}: rotary positions come in pairs")
  if heads % kv_heads:
    raise ValueError(
      f"num_attention_heads {heads} is no multiple of "
      f"num_key_value_heads {kv_heads}"
    )
  return dict(
    family=family,
    vocab=c["vocab_size"],
    width=c["hidden_size"],
    layers=c["num_hidden_layers"],
    heads=heads,
    kv_heads=kv_heads,
    head_dim=head_dim,
    mlp_width=c["intermediate_size"],
    activation=activation(c),
    norm_eps=c["rms_norm_eps"],
    rope_theta=float(c.get("rope_theta") or 10_000.0),
    rope_scaling=_scaling(c),
    mrope_sections=tuple(
      (c.get("rope_scaling") or {}).get("mrope_section", ())
    ),
    tied=c["tie_word_embeddings"],
    **FAMILIES[family](c),
  )


def _check(c: dict) -> None:
  """Refuses what would change the result and is not computed."""
  if c.get("use_bidirectional_attention"):
    raise ValueError("use_bidirectional_attention is not supported")
  if c.get("partial_rotary_factor", 1.0) != 1.0:
    raise ValueError("partial_rotary_factor other than 1 is not supported")
  if activation(c) == "quick_gelu":
    raise ValueError("hidden_act 'quick_gelu' is known in towers only")
  kinds = c.get("layer_types") or ()
  for kind in kinds:
    if kind not in ("full_attention", "sliding_attention"):
      raise ValueError(f"layer_types: {kind!r} is not supported")
  if kinds and len(kinds) != c["num_hidden_layers"]:
    raise ValueError(
      f"layer_types names {len(kinds)} layers, num_hidden_layers is "
      f"{c['num_hidden_layers']}"
    )


def _llama(c: dict) -> dict:
  bias = c["attention_bias"]
  return dict(qkv_bias=bias, o_bias=bias, mlp_bias=c["mlp_bias"])


def _mistral(c: dict) -> dict:
  if c["sliding_window"] is None:
    return {}
  layers = c["num_hidden_layers"]
  return dict(window=c["sliding_window"], sliding=(True,) * layers)


def _qwen2(c: dict) -> dict:
  if not c["use_sliding_window"] or c["sliding_window"] is None:
    return dict(qkv_bias=True)
  start = c["max_window_layers"]
  slides = tuple(i >= start for i in range(c["num_hidden_layers"]))
  return dict(qkv_bias=True, **_sliding(c, slides))


def _qwen2_vl(c: dict) -> dict:
  """A window counts tokens, of which a video has more than positions."""
  fields = _qwen2(c)
  if any(fields.get("sliding", ())):
    raise ValueError("use_sliding_window is not supported with video (M-RoPE)")
  return fields


def _qwen3_vl(c: dict) -> dict:
  """The published class lets the axes take turns, whatever its file says."""
  scaling = c.get("rope_scaling") or {}
  if not scaling.get("mrope_section"):
    raise ValueError("rope_scaling lacks mrope_section")
  if scaling.get("mrope_interleaved") is False:
    raise ValueError("mrope_interleaved False is not supported")
  bias = c["attention_bias"]
  return dict(qkv_bias=bias, o_bias=bias, qk_norm=True, mrope_interleaved=True)


def _gemma(c: dict, slides: tuple[bool, ...]) -> dict:
  return dict(
    qkv_bias=c["attention_bias"],
    o_bias=c["attention_bias"],
    attn_softcap=c["attn_logit_softcapping"],
    final_softcap=c["final_logit_softcapping"],
    query_scale=c["query_pre_attn_scalar"] ** -0.5,
    post_norms=True,
    unit_offset_norm=True,
    embed_scale=True,
    **_sliding(c, slides),
  )


def _gemma2(c: dict) -> dict:
  return _gemma(c, tuple(i % 2 == 0 for i in range(c["num_hidden_layers"])))


def _gemma3(c: dict) -> dict:
  every = c.get("_sliding_window_pattern") or c["sliding_window_pattern"]
  slides = tuple((i + 1) % every > 0 for i in range(c["num_hidden_layers"]))
  local = float(c["rope_local_base_freq"])
  return dict(qk_norm=True, rope_local_theta=local, **_gemma(c, slides))


FAMILIES = {
  "llama": _llama,
  "mistral": _mistral,
  "qwen2": _qwen2,
  "qwen2_vl_text": _qwen2_vl,
  "qwen2_5_vl_text": _qwen2_vl,
  "qwen3_vl_text": _qwen3_vl,
  "gemma2": _gemma2,
  "gemma3_text": _gemma3,
}


def _sliding(c: dict, by_rule: tuple[bool, ...]) -> dict:
  """Which layers slide: as listed in the file, else by the family's rule."""
  kinds = c.get("layer_types")
  slides = tuple(k == "sliding_attention" for k in kinds) if kinds else by_rule
  return dict(window=c["sliding_window"], sliding=slides)


def activation(c: dict) -> str:
  """Our name of the published activation; ValueError for an unknown one."""
  name = c.get("hidden_activation") or c["hidden_act"]
  if name not in ACTIVATIONS:
    known = ", ".join(ACTIVATIONS)
    raise ValueError(f"hidden_act {name!r} is not one of {known}")
  return ACTIVATIONS[name]


def _rope_fields(hf: dict) -> dict:
  """The newer `rope_parameters` block, in the older fields' names.

  What it leaves open the older fields say; it is read where they are null.
  """
  new, scaling = hf.get("rope_parameters") or {}, hf.get("rope_scaling")
  if not {"full_attention", "sliding_attention"} & set(new):
    scaling = scaling or new or None
    return dict(rope_scaling=scaling, **_theta(scaling, "rope_theta"))
  full, local = (
    new.get(f"{kind}_attention") or {} for kind in ("full", "sliding")
  )
  if _scaling(dict(rope_scaling=local)):
    raise ValueError("rope_parameters.sliding_attention is scaled")
  return dict(
    rope_scaling=full | (scaling or {}),
    **_theta(full, "rope_theta"),
    **_theta(local, "rope_local_base_freq"),
  )


def _theta(block: dict | None, name: str) -> dict:
  """The base in a block of RoPE parameters, under the older field's name."""
  theta = (block or {}).get("rope_theta")
  return {} if theta is None else {name: theta}


ROPE_FIELDS = {  # published name -> ours
  "linear": {"factor": "factor"},
  "llama3": {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_length",
  },
}


def _scaling(c: dict) -> dict | None:
  """RoPE scaling; files say `type`, `rope_type` or both."""
  s = c.get("rope_scaling")
  if not s:
    return None
  kind = s.get("rope_type") or s.get("type")
  if s.get("partial_rotary_factor", 1.0) != 1.0:
    raise ValueError("partial_rotary_factor other than 1 is not supported")
  if kind in ("default", "mrope") or (kind is None and "factor" not in s):
    return None
  if kind not in ROPE_FIELDS:
    raise ValueError(f"rope_scaling type {kind!r} is not linear or llama3")
  for key in ROPE_FIELDS[kind]:
    if key not in s:
      raise ValueError(f"rope_scaling of type {kind!r} lacks {key}")
  fields = {ours: s[key] for key, ours in ROPE_FIELDS[kind].items()}
  return dict(kind=kind, **fields)
