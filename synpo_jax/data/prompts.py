"""What a captioner is asked. Change a text, and change the version with it."""

PROMPTS_VERSION = "2026-11-a"

TRAINING_QUESTION = (
  "Describe this video in detail: what it is about, where it is set, and"
  " what the people, animals or objects in it are doing."
)
CAUTION = "Be careful, and leave out whatever you are not sure of."

VDC = {
  "detailed": (
    TRAINING_QUESTION,
    "Tell everything that this video shows, from the start to the end.",
    "Describe the video in detail: the place, the camera, the objects and"
    " what happens, in order.",
  ),
  "background": (
    "Describe only the background of this video: the place, the light and"
    " what stands there.",
    "Where is this video set? Describe the background.",
  ),
  "camera": (
    "Describe only how the camera moves in this video.",
    "What does the camera do: does it stay still, pan or zoom?",
  ),
  "main_object": (
    "Describe only the main object of this video: how it looks, where it is"
    " and what it does.",
    "What is the main object, and what does it do?",
  ),
  "short": (
    "Describe this video in one short sentence.",
    "What does this video show, in one sentence?",
  ),
}


def retrospective(
  text: str, *, question: str = TRAINING_QUESTION, caution: bool = False
) -> str:
  """Hands an earlier answer back and asks for a better one.

  Args:
    text: the answer of the first pass.
    question: what was asked in the first pass; it stays in force, so that
      a request for one sentence is not lost on the way.
    caution: whether to ask again for care (clip captions do).
  """
  if not text.strip():
    raise ValueError("the retrospective prompt needs the text of a first pass")
  lines = [
    question,
    "Here is an earlier answer:",
    text.strip(),
    "It may hold words that are wrong or do not belong; you need not keep"
    " them. Look at the video again and write a better answer: complete,"
    " well told as one story, more exact, with more about what happens, what"
    " changes and in which order.",
  ]
  if caution:
    lines.append(CAUTION)
  return "\n".join([*lines, "Better answer:"])
