"""Small tokenizers in the manner of published ones; nothing is downloaded."""

from tokenizers import (
  AddedToken,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
)
from transformers import PreTrainedTokenizerFast

CHATML = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content']"
  " + '<|im_end|>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Pieces that the LLaMA vocabulary gives the official prompt, with its ids.
LLAMA_IDS = {
  "<unk>": 0,
  "<s>": 1,
  "</s>": 2,
  "<0x0A>": 13,
  "▁▁": 259,
  "▁A": 319,
  "ER": 1001,
  "SS": 1799,
  "▁US": 3148,
  "IST": 9047,
  "ANT": 13566,
  "▁": 29871,
  ":": 29901,
}
LLAMA_MERGES = "▁ U|▁U S|E R|▁ ▁|▁ A|S S|I S|IS T|A N|AN T"


def llama():
  """SentencePiece manners: a space before each text, bytes as fallback."""
  vocab = dict(LLAMA_IDS)
  merges = [tuple(m.split(" ")) for m in LLAMA_MERGES.split("|")]
  letters = [chr(i) for i in range(33, 127)]
  bytes_ = [f"<0x{i:02X}>" for i in range(256)]
  for token in [*letters, *("".join(m) for m in merges), *bytes_]:
    vocab.setdefault(token, 30000 + len(vocab))
  model = models.BPE(
    vocab=vocab,
    merges=merges,
    unk_token="<unk>",
    fuse_unk=True,
    byte_fallback=True,
  )
  made = Tokenizer(model)
  made.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
  )
  made.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
  )


# As published, without what tools and dates add to them.
GEMMA = (
  "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
  "{{ raise_exception('System role not supported') }}{% endif %}"
  "{% for m in messages %}"
  "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
  "'Conversation roles must alternate user/assistant/user') }}{% endif %}"
  "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
  "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim"
  " + '<end_of_turn>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA3 = (
  "{{ bos_token }}{% for m in messages %}"
  "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
  " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
  "{% if add_generation_prompt %}"
  "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
VICUNA = (
  "{% for m in messages %}{% if m['role'] == 'user' %}"
  "{{ 'USER: ' + m['content'] }}{% else %}"
  "{{ ' ASSISTANT: ' + m['content'] }}{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
PARTS = (  # LLaVA's form: content is a list
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' }}"
  "{% for part in m['content'] | selectattr('type', 'equalto', 'image') %}"
  "{{ '<image>\n' }}{% endfor %}"
  "{% for part in m['content'] | selectattr('type', 'equalto', 'text') %}"
  "{{ part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level(template, special=(), added=(), **named):
  """Byte-level manners: tokens special but unmapped, added ones that are not.

  named: bos_token, eos_token, …, special too.
  """
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  made = Tokenizer(
    models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
  )
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  made.add_special_tokens([AddedToken(t, special=True) for t in special])
  made.add_tokens([AddedToken(t, normalized=False) for t in added])
  return PreTrainedTokenizerFast(
    tokenizer_object=made, chat_template=template, **named
  )


def chatml(eos="<|endoftext|>"):
  """Byte-level manners, with a chat template and no BOS."""
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  made = Tokenizer(
    models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
  )
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
  special += ["<|vision_start|>", "<|vision_end|>"]
  made.add_special_tokens([AddedToken(t, special=True) for t in special])
  return PreTrainedTokenizerFast(
    tokenizer_object=made,
    eos_token=eos,
    additional_special_tokens=special[1:],
    chat_template=CHATML,
  )
