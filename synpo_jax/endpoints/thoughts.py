"""What a model thought before it replied, told from the reply itself.

Models that reason mark their thoughts in many ways: tags of several names and
brackets, of which servers at times cut the first off; channels, of which the
last is the reply; sentences of a fixed wording. A thought is no reply, be it
a score or the text that a second judge is shown.
"""

import re

NAMES = (
  r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis"
  r"|scratch_?pad|(?:inner_?)?monologue|chain_of_thought)"
)
# A mark that opens a thought, or (with "end") closes one.
MARK = re.compile(
  rf"(?:<|&lt;)\s{{0,9}}(?P<a>/?)\s{{0,9}}{NAMES}(?:\s[^<>]{{0,99}})?(?:>|&gt;)"
  rf"|\[\s{{0,9}}(?P<b>/?)\s*{NAMES}\s*\]"
  rf"|◁\s{{0,9}}(?P<c>/?)\s*{NAMES}\s*▷"
  rf"|<\|\s{{0,9}}(?P<d>/?)\s*{NAMES}\s*\|>"
  rf"|<\|(?:start|begin|(?P<e>end))(?:_of)?_{NAMES}\|>"
  r"|<unused94>(?:thought)?|(?P<f><unused95>)"
  r"|<\|inner_prefix\|>|(?P<g><\|inner_suffix\|>)"
  r"|<details\b[^<>]{0,99}reasoning[^<>]{0,99}>|(?P<h></details>)",
  re.IGNORECASE,
)
CLOSING = "abcdefgh"
# The channels of Harmony and of Gemma; `name` is empty where one ends.
CHANNEL = re.compile(
  r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s{0,9}(?P<name>\w+)"
  r"[^<]{0,80}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>"
  r"|<\|channel>\s{0,9}(?P<other>\w+)|<channel\|>"
  r"|<\|(?:end|return|call)\|>"
)
# The same when the marks themselves were left out by the server.
BARE = re.compile(r"\s*analysis\S.*?assistant\s*final(?:json)?", re.DOTALL)
WORDED = re.compile(
  r"\s*(?:Here(?: is|'s) my thought process:|Thinking Process:|Thinking\.\.\.)"
  r".*?(?:Here(?: is|'s) my response:|\.\.\.done thinking\.)",
  re.DOTALL | re.IGNORECASE,
)
# What wraps a reply or ends it, and is none of its words.
WRAP = re.compile(
  r"</?(?:answer|response|final_answer|output)>"
  r"|<[|｜][^<>|｜\n]{1,40}[|｜]>|</?s>|<(?:start|end)_of_turn>",
  re.IGNORECASE,
)


def without_thoughts(text: str) -> str:
  """The reply with a space for each thought and for marks around it.

  A thought that is not closed goes to the end, one that is not opened begins
  with the text.
  """
  text = _last_channel(text)
  for form in (BARE, WORDED):
    if match := form.match(text):
      text = text[match.end() :]
  return WRAP.sub(" ", _without_marked(text))


def _without_marked(text):
  kept, at, depth = [], 0, 0
  for mark in MARK.finditer(text):
    if any(mark.group(name) for name in CLOSING):
      if not depth and mark.group("h"):
        continue  # ends something that was no thought
      if not depth:
        kept = []  # all before it was thought
      depth = max(0, depth - 1)
    else:
      if not depth:
        kept.append(text[at : mark.start()])
      depth += 1
    at = mark.end()
  if not depth:
    kept.append(text[at:])
  return " ".join(kept)


def _last_channel(text):
  """Channels named final, or words outside all of them; else the text."""
  kept, at, name, seen = [], 0, None, False
  for mark in CHANNEL.finditer(text):
    opens = mark.group("name") or mark.group("other")
    if opens is None and not seen:
      continue  # a mere end of turn
    if name in (None, "final"):
      kept.append(text[at : mark.start()])
    name, at, seen = opens and opens.lower(), mark.end(), True
  if not seen:
    return text
  if name in (None, "final"):
    kept.append(text[at:])
  return " ".join(kept)
