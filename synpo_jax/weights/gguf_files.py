"""A language model out of a GGUF file: Hugging Face names, numbers, tokens.

For the Llama architecture with a byte-level BPE tokenizer, which is what
SmolLM2 has. Everything the file says is read; nothing is guessed.
"""

from collections.abc import Iterator

import gguf
import numpy as np
from jaxtyping import Float
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

NAMES = {
  "token_embd": "model.embed_tokens",
  "output_norm": "model.norm",
  "output": "lm_head",
}
LAYER_NAMES = {
  "attn_norm": "input_layernorm",
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_output": "self_attn.o_proj",
  "ffn_norm": "post_attention_layernorm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}
# How llama.cpp's names of text splitters are spelled with `tokenizers`.
SPLITTERS = {
  "smollm": lambda: [
    pre_tokenizers.Digits(individual_digits=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False),
  ],
}
CONTROL = int(gguf.TokenType.CONTROL)


def config(reader: gguf.GGUFReader) -> dict:
  """The `config.json` of the model. ValueError where it is not a Llama."""
  kind = _value(reader, "general.architecture")
  if kind != "llama":
    raise ValueError(f"GGUF architecture {kind!r}: only 'llama' is known")

  def size(key):
    return _value(reader, f"llama.{key}")

  return dict(
    model_type="llama",
    architectures=["LlamaForCausalLM"],
    vocab_size=size("vocab_size"),
    hidden_size=size("embedding_length"),
    intermediate_size=size("feed_forward_length"),
    num_hidden_layers=size("block_count"),
    num_attention_heads=size("attention.head_count"),
    num_key_value_heads=size("attention.head_count_kv"),
    max_position_embeddings=size("context_length"),
    hidden_act="silu",
    rms_norm_eps=float(f"{size('attention.layer_norm_rms_epsilon'):.6g}"),
    rope_theta=size("rope.freq_base"),
    tie_word_embeddings=all(t.name != "output.weight" for t in reader.tensors),
    bos_token_id=_value(reader, "tokenizer.ggml.bos_token_id"),
    eos_token_id=_value(reader, "tokenizer.ggml.eos_token_id"),
  )


def tensors(
  reader: gguf.GGUFReader,
) -> Iterator[tuple[str, Float[np.ndarray, "..."]]]:
  """(Hugging Face name, float32 tensor) of every tensor, dequantised."""
  sizes = config(reader)
  heads = {
    "attn_q": sizes["num_attention_heads"],
    "attn_k": sizes["num_key_value_heads"],
  }
  for tensor in reader.tensors:
    stem = tensor.name.removesuffix(".weight")
    value = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    value = np.array(value, np.float32)
    if stem.startswith("blk."):
      _, layer, stem = stem.split(".", 2)
      name = f"model.layers.{layer}.{LAYER_NAMES[stem]}"
    else:
      name = NAMES[stem]
    if stem in heads:
      value = half_split(value, heads[stem])
    yield f"{name}.weight", value


def half_split(
  kernel: Float[np.ndarray, "out in"], heads: int
) -> Float[np.ndarray, "out in"]:
  """Rows of q or k from GGUF's rotary order to Hugging Face's.

  GGUF turns neighbouring rows of a head (0 and 1, 2 and 3, ...) together;
  Hugging Face turns row i of the head's first half and row i of its second.
  """
  pairs = kernel.reshape(heads, -1, 2, kernel.shape[1])
  return pairs.swapaxes(1, 2).reshape(kernel.shape)


def tokenizer(reader: gguf.GGUFReader) -> PreTrainedTokenizerFast:
  """The file's tokenizer: special tokens by id, its chat template.

  Raises ValueError for another kind of tokenizer, or a splitter that is not
  in SPLITTERS.
  """

  def said(key):
    return _value(reader, f"tokenizer.ggml.{key}")

  kind, splitter = said("model"), said("pre")
  if kind != "gpt2" or splitter not in SPLITTERS:
    raise ValueError(
      f"GGUF tokenizer {kind!r} with splitter {splitter!r}: only 'gpt2' with "
      f"one of {', '.join(SPLITTERS)} is known"
    )
  tokens = said("tokens")
  vocab = {token: i for i, token in enumerate(tokens)}
  merges = [tuple(merge.split(" ")) for merge in said("merges")]
  bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges))
  bpe.pre_tokenizer = pre_tokenizers.Sequence(SPLITTERS[splitter]())
  bpe.decoder = decoders.ByteLevel()
  kinds = zip(tokens, said("token_type"), strict=True)
  control = [token for token, kind in kinds if kind == CONTROL]
  bpe.add_special_tokens([AddedToken(t, special=True) for t in control])
  return PreTrainedTokenizerFast(
    tokenizer_object=bpe,
    bos_token=tokens[said("bos_token_id")],
    eos_token=tokens[said("eos_token_id")],
    unk_token=tokens[said("unknown_token_id")],
    pad_token=tokens[said("padding_token_id")],
    additional_special_tokens=control,
    chat_template=_value(reader, "tokenizer.chat_template"),
    model_max_length=_value(reader, "llama.context_length"),
    clean_up_tokenization_spaces=False,
  )


def _value(reader, key):
  if key not in reader.fields:
    raise ValueError(f"the GGUF file does not say {key}")
  return reader.fields[key].contents()
