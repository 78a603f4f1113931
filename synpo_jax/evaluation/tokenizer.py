"""A Penn-Treebank tokeniser for caption scores, without Java.

The published caption metrics lower-case, tokenise in Penn-Treebank style and
drop punctuation tokens before they count n-grams. This file does the same
with regular expressions; where Java and pycocoevalcap are installed, a test
compares the two on sentences of many kinds.
"""

import re

# Tokens the caption metrics ignore. Brackets are lower-cased before this list
# is applied, as in the published scorer, so "-lrb-" stays a token.
PUNCTUATION = frozenset(
  ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
  + [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

_BRACKETS = {
  "(": "lrb",
  ")": "rrb",
  "[": "lsb",
  "]": "rsb",
  "{": "lcb",
  "}": "rcb",
}

_REWRITES = str.maketrans(
  {
    "\u2018": "`",  # curly and angled quotes become Treebank quotes
    "\u2019": "'",
    "\u201b": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u00ab": '"',
    "\u00bb": '"',
    "\u2013": " -- ",
    "\u2014": " -- ",
    "\u2015": " -- ",
    "\u2026": "...",
    "\u00a3": " # ",
    "\u20ac": " $ ",
    "\u00a2": " cents ",
    "\u00bd": " 1/2 ",
    "\u00bc": " 1/4 ",
    "\u00be": " 3/4 ",
    "\u2153": " 1/3 ",
    "\u2154": " 2/3 ",
    "\u00a0": " ",
    "\u00ad": None,
    "\ufe0f": None,
  }
)

# Words whose full stop belongs to them, and those for which that is so before
# a number only.
_ABBREVIATIONS = """
jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
ala ariz ark calif colo conn del fla ga ill ind kan kans ky la mass md mich minn
miss mo mont neb nev okla ore pa penn tenn tex va vt wash wis wisc wyo
inc co cos corp ltd plc bancorp dept bhd assn univ intl sys pty pte jr sr bros
blvd rd esq st ste ave mt sq dr drs mr mrs ms prof profs sen sens rep reps atty
attys lt col gen messrs gov govs adm rev maj sgt cpl pvt capt pres lieut hon
brig cmdr comdr pfc spc supt supts det insp mme mlle
etc vs al cf seq bldg est dept tel ext ph\\.d ed\\.d ft alex wm jos natl mfg
elec ct
""".split()
_BEFORE_NUMBERS = "ca fig figs prop no nos art pp op".split()


_END = r"(?![^\W_])"  # the end of a run of letters and digits
_A = r"(?:[^\W\d_\u00b2\u00b3\u00b9][\u0300-\u036f]*)"  # one letter
_AN = r"(?:[^\W_\u00b2\u00b3\u00b9][\u0300-\u036f]*)"  # a letter or digit
_CLITIC = rf"'(?:s|m|d|re|ve|ll){_END}"
# In order of preference; the first that matches at a position is the token.
_TOKEN = re.compile(
  "|".join(
    (
      r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?)'\]]",
      r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
      r"[@#][a-z]+",
      r"</?[a-z!][^<>\s]*(?:\s[^<>]*)?>",
      rf"''|n['`]t{_END}|{_CLITIC}",
      r"'em",  # the original splits 'emotion too
      r"'t(?=is|was)|'n'|(?<![^\W_])'\d\ds?" + _END,
      r"'(?:n|til|cause)" + _END,
      rf"can(?=not{_END})|gon(?=na{_END})|got(?=ta{_END})|wan(?=na{_END})",
      rf"(?:gim|lem)(?=me{_END})",
      rf"o'clock|ma'am|ol'|[dlo]'{_A}+|[yj]'(?={_A})",
      rf"(?:{'|'.join(_ABBREVIATIONS)})\.(?!{_AN})",
      rf"(?:{'|'.join(_BEFORE_NUMBERS)})\.(?= ?\d)",
      rf"(?:{_A}\.)+(?!{_AN})",
      rf"{_A}{_AN}*(?:\.{_AN}+)+",
      r"[-+]?\d+(?:[.,:/]\d+)+|[-+]\d+",
      rf"{_AN}+?(?=n['`]t{_END})",
      r"(?-i:[A-Z]+(?:&[A-Z]+)+)|c\+\+|c#|[:;]-?[()]",
      rf"{_A}+[!?]{_A}+",
      rf"{_AN}+(?:[-_/]{_AN}+)*",
      r"\.\.\.|[?!]+|-{2,}|\*+|_+|[^\s\U00010000-\U0010ffff]",
    )
  ),
  re.IGNORECASE,
)


def tokenize(text: str) -> list[str]:
  """Lower-case Penn-Treebank tokens of `text` without punctuation."""
  tokens = []
  for match in _TOKEN.finditer(text.translate(_REWRITES)):
    token = match.group().lower()
    for bracket, name in _BRACKETS.items():
      token = token.replace(bracket, f"-{name}-")
    if token == '"' or token.startswith("--") or token in PUNCTUATION:
      continue
    tokens.append(token)
  return tokens
