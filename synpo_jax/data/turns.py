"""Chat messages of a row: earlier turns, a question and its answers."""

from typing import Any, NamedTuple

from synpo_jax.data import media
from synpo_jax.data.media import Fault

NEEDED = {"role", "content"}  # of a message
ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT = {"human": "user", "gpt": "assistant"}  # ShareGPT's roles, and ours
UNREAD = ("tool_calls", "function_call", "reasoning_content", "thinking")
PLACES = ("video", "path", "url", "video_url")  # of the file, in a part

Message = tuple[str, str]  # role, text


class Told(NamedTuple):
  """Fields of a row with its messages taken apart."""

  history: tuple[Message, ...]
  fields: dict[str, Any]
  is_chat: bool


class Turn(NamedTuple):
  """One message: who, what, and the video that stands before it."""

  role: str
  text: str
  video: str | None
  shown: bool  # a part stands for a video, named here or by the row


def text(fields: dict, name: str, where: str = "") -> str:
  """A field that has to be text; raises Fault."""
  value = fields[name]
  if value is None:
    raise Fault(f"{where}lacks {name!r}")
  if not isinstance(value, str):
    raise Fault(f"{where}{name!r} is a {type(value).__name__}, not text")
  if not value.strip():
    raise Fault(f"{where}{name!r} is empty")
  try:
    value.encode()
  except UnicodeEncodeError as error:
    half = ascii(value[error.start])
    raise Fault(f"{where}{name!r} holds {half}, half of a character") from error
  return value


def answer(fields: dict, name: str) -> str:
  """A field that is a text, or messages of which the last is an answer.

  Raises Fault for what is neither.
  """
  if not isinstance(fields[name], list):
    return text(fields, name)
  told = messages(fields[name], name)
  if not told or told[-1].get("role") != "assistant":
    raise Fault(f"{name!r} does not end with an assistant message")
  turn = _turn({"content": None} | told[-1], f"{name!r}: ")
  if turn.shown:
    raise Fault(f"a video stands in {name!r}")
  return turn.text


def messages(listed: Any, name: str) -> list[dict[str, Any]]:
  """Messages as {role, content}, written so or as {from, value}.

  Raises Fault for what is no list of objects; the rest `unfold` checks.
  """
  if not isinstance(listed, list):
    raise Fault(f"{name!r} is a {type(listed).__name__}, not a list")
  return [
    _message(message, f"{name!r} message {n}")
    for n, message in enumerate(listed, 1)
  ]


def _message(message: Any, where: str) -> dict[str, Any]:
  if not isinstance(message, dict):
    raise Fault(f"{where} is a {type(message).__name__}, not a message")
  if "from" not in message or message.get("role") is not None:
    return message
  rest = {k: v for k, v in message.items() if k not in ("from", "value")}
  said = message["from"]
  role = SHAREGPT.get(said, said) if isinstance(said, str) else said
  return rest | {"role": role, "content": message.get("value")}


def unfold(fields: dict, captions: int) -> Told:
  """Turns message lists into earlier turns, question and two answers."""
  if not isinstance(fields["chosen"], list):
    return Told((), fields, False)
  chosen = _turns(fields, "chosen")
  if captions > 1:
    rejected = _turns(fields, "rejected")
    if chosen[:-1] != rejected[:-1]:
      raise Fault("chosen and rejected differ before their last message")
    fields = fields | {"rejected": rejected[-1].text}
  *history, asked = chosen[:-1]
  fields = fields | {"question": asked.text, "chosen": chosen[-1].text}
  fields["video"] = _video(fields["video"], asked)
  if any(turn.shown for turn in (*history, chosen[-1])):
    raise Fault("a video stands in another message than the last question")
  told = tuple((turn.role, turn.text) for turn in history)
  return Told(told, fields, True)


def _video(named: Any, asked: Turn) -> Any:
  """The row's video: named by the row, by a part of the question, or both."""
  if asked.video is not None and named not in (None, asked.video):
    raise Fault("the row and its question name different videos")
  if asked.shown and asked.video is None and named is None:
    raise Fault("its question has a part for a video, but the row names none")
  return named if asked.video is None else asked.video


def _turns(fields: dict, name: str) -> list[Turn]:
  """Turns of a conversation that ends with a question and its answer."""
  listed = fields[name]
  if not isinstance(listed, list):
    raise Fault(f"{name!r} is not a list of messages as its counterpart is")
  if not all(isinstance(m, dict) and m.keys() >= NEEDED for m in listed):
    raise Fault(f"{name!r} holds messages without 'role' or 'content'")
  turns = [
    _turn(message, f"{name!r} message {number}: ")
    for number, message in enumerate(listed, 1)
  ]
  if [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
    raise Fault(f"{name!r} does not end with a user and an assistant message")
  return turns


def _turn(message: dict, where: str) -> Turn:
  role = text(message, "role", where)
  if role not in ROLES:
    known = ", ".join(ROLES)
    raise Fault(f"{where}role {role!r:.40} is none of {known}")
  for key in UNREAD:
    if message.get(key):
      raise Fault(f"{where}{key!r} is not read; take it out")
  media.check(message, NEEDED, seen=False, where=where)
  if not isinstance(message["content"], list):
    if role == "system" and message["content"] in ("", None):
      raise Fault(f"{where}the system turn is empty; take it out")
    return Turn(role, text(message, "content", where), None, False)
  return _joined(role, message["content"], where)


def _joined(role: str, parts: list, where: str) -> Turn:
  """A turn whose content is a list of parts: text, and one video before it."""
  words, video, shown = [], None, False
  for part in parts:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind == "text":
      words.append(text(part | {"text": part.get("text")}, "text", where))
    elif kind in ("video", "video_url") and not shown and not words:
      video, shown = _named(part, where), True
    elif kind in ("video", "video_url"):
      way = "a row has one" if shown else "put it before the text"
      raise Fault(f"{where}a part of type {kind!r} in this place; {way}")
    else:
      raise Fault(
        f"{where}a part of type {kind!r:.40} is not read, only text and a video"
      )
  content = text({"content": "".join(words)}, "content", where)
  return Turn(role, content, video, shown)


def _named(part: dict, where: str) -> str | None:
  """The file of a video part; None where the row has to name it."""
  given = {key for key, value in part.items() if value is not None}
  for key in sorted(map(str, given - {"type", *PLACES})):
    raise Fault(f"{where}{key!r} of a video part is not read; take it out")
  for key in PLACES:
    value = part.get(key)
    value = value.get("url") if isinstance(value, dict) else value
    if value is not None:
      return text({key: value}, key, where)
  return None
