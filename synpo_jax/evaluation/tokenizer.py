"""A Penn-Treebank tokeniser for caption scores, without Java.

The published caption metrics lower-case, tokenise in Penn-Treebank style and
drop punctuation tokens before they count n-grams. This file does the same
with regular expressions; where Java and pycocoevalcap are installed, a test
compares the two on sentences of many kinds.
"""

import re
import unicodedata

# Tokens the caption metrics ignore. Brackets are lower-cased before this list
# is applied, as in the published scorer, so "-lrb-" stays a token.
PUNCTUATION = frozenset(
  ["''", "'", "\u2019", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]
  + [".", "?", "!", ",", ":", "-", "--", "...", ";", "\u2010", "\u2011"]
)

_BRACKETS = {
  "(": "-lrb-",
  ")": "-rrb-",
  "[": "-lsb-",
  "]": "-rsb-",
  "{": "-lcb-",
  "}": "-rcb-",
}
_ENTITIES = {
  "amp": "&",
  "lt": " < ",
  "gt": " > ",
  "quot": '"',
  "apos": "'",
  "nbsp": " ",
}
_ENTITY = re.compile(rf"&({'|'.join(_ENTITIES)});", re.IGNORECASE)

_REWRITES = str.maketrans(
  dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"')  # curly and angled quotes
  | dict.fromkeys("\u2012\u2013\u2014\u2015", " -- ")
  # Left out: signs of width and direction, quotes and coins of elsewhere.
  | dict.fromkeys(range(0x200B, 0x2010), " ")
  | dict.fromkeys((0x2060, 0xFEFF, 0xFE0F), " ")
  | dict.fromkeys("\u2039\u203a\u301d\u301e", " ")
  | dict.fromkeys(range(0x3008, 0x3012), " ")
  | {
    code: " " for code in range(0x20A1, 0x20C0) if code not in (0x20A4, 0x20AC)
  }
  | {
    "\u2018": "`",
    "\u201b": "'",
    "\u2026": "...",
    "\u00a3": " # ",
    "\u00a4": " $ ",
    "\u20a0": " $ ",
    "\u20ac": " $ ",
    "\u00a2": " cents ",
    "\u00bd": " 1/2 ",
    "\u00bc": " 1/4 ",
    "\u00be": " 3/4 ",
    "\u2153": " 1/3 ",
    "\u2154": " 2/3 ",
    "\u00a0": " ",
    "\u00ad": None,
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

# Words that an apostrophe does not split.
_APOSTROPHES = r"""
c'mon li'l somethin' dunkin' s'mores ev'ry cont'd\. nor'easter e'er nat'l
o'clock ma'am
""".split()


def _marks() -> str:
  """The combining marks from Latin to Thai."""
  points = map(chr, range(0x300, 0xE4F))
  return "".join(c for c in points if unicodedata.category(c).startswith("M"))


_Q = "['\u2019]"  # an apostrophe
_END = r"(?![^\W_])"  # the end of a run of letters and digits
_SMALL = "\u00b2\u00b3\u00b9\u2070-\u209c"  # raised and lowered signs
_A = rf"(?:[^\W\d_{_SMALL}][{_marks()}]*)"  # one letter
_AN = rf"(?:[^\W_{_SMALL}][{_marks()}]*)"  # a letter or digit
_ENDING = rf"(?i:s|m|d|re|ve|ll){_END}"
# In order of preference; the first that matches at a position is the token.
_TOKEN = re.compile(
  "|".join(
    (
      r"https?://[^\s<>\"]*[^\s<>\".,;:!?)'\]]",
      r"www\.[^\s<>\"'\u2019]*[^\s<>\"'\u2019.,;:!?)\]/-]",
      r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
      r"#[a-z]+|@[a-z]\w*",
      r"</?[a-z!][^<>\s]*(?:\s[^<>]*)?>",
      r"&\#\d+;",
      rf"(?P<clitic>n['\u2019`]t{_END}|{_Q}{_ENDING})",
      rf"''|{_Q}em",  # the original splits 'emotion too
      rf"'t(?=is|was)|{_Q}n{_Q}|{_Q}\d\d(?:s{_END}|(?!\S))",
      rf"{_Q}(?:n|til|cause){_END}",
      rf"can(?=not{_END})|gon(?=na{_END})|got(?=ta{_END})|wan(?=na{_END})",
      rf"(?:gim|lem)(?=me{_END})",
      rf"(?:{'|'.join(_APOSTROPHES).replace(chr(39), _Q)}){_END}|ol{_Q}",
      rf"(?-i:[A-HJ-XZn]{_Q}{_A}{{2,}}|{_A}+[aeiouyAEIOUY]{_Q}(?!{_ENDING})"
      rf"[aeiouA-Z]{_A}*)",
      rf"[dlo]{_Q}{_A}{{2,}}|[yjdl]{_Q}(?={_A})",
      rf"(?:{'|'.join(_ABBREVIATIONS)})\.(?!{_AN})",
      rf"(?:{'|'.join(_BEFORE_NUMBERS)})\.(?= ?\d)",
      rf"(?:{_A}\.)+-{_AN}+|(?:{_A}\.)+(?!{_AN})",
      rf"{_A}{_AN}*(?:\.{_A}{_AN}*)+",
      rf"(?-i:[A-Z]+\$)|{_AN}+(?:[-_\u2010\u2011]{_AN}+)*\.(?=[,;:])",
      r"[-+]?(?:\d+(?:[.,:/]\d+)+|(?:[.,:]\d+)+)|[-+]\d+",
      rf"{_AN}+?(?=n['\u2019`]t{_END})",
      r"(?-i:[A-Z]+(?:&[A-Z]+)+)|c\+\+|[cf]\#",
      rf"[<>]?[:;=][-o*']?(?-i:[()DdPpO\\{{@|\[\]])(?!{_AN})",
      rf"{_A}+(?:[!?]{_A}+)+",
      rf"{_AN}+(?:[-_/\u2010\u2011]{_AN}+)*",
      r"\.\.\.|[?!]+|-{2,}|\*+|_+|\#+|@+|[^\s\U00010000-\U0010ffff]",
    )
  ),
  re.IGNORECASE,
)


# Scripts without spaces between words: Han and kana are taken letter by letter,
# as usual for captions in Chinese; of the others we know no words.
_CJK = (
  "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
  "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_LETTER = re.compile(f"([{_CJK}])")
_CJK_POINTS = re.compile(
  "[\u3001-\u3003\u3008-\u301f\u30fb\uff01-\uff0f"
  "\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\u2018-\u201f\u2026\u2014]"
)
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def is_cjk(text: str) -> bool:
  """Whether a text holds Han or kana, which are tokens one by one."""
  return bool(_LETTER.search(text))


def is_unspaced(text: str) -> bool:
  """Whether a text is in a script whose words we cannot tell apart."""
  return bool(_UNSPACED.search(text))


def tokenize(text: str) -> list[str]:
  """Lower-case Penn-Treebank tokens of `text` without punctuation.

  In a text with Han or kana each of these is a token, and their own
  punctuation is dropped too.
  """
  if is_cjk(text):
    text = _LETTER.sub(r" \1 ", _CJK_POINTS.sub(" ", text))
  text = _ENTITY.sub(lambda m: _ENTITIES[m.group(1).lower()], text)
  tokens = []
  for match in _TOKEN.finditer(text.translate(_REWRITES)):
    token = _BRACKETS.get(match.group(), match.group().lower())
    if match.group("clitic"):
      token = token.replace("\u2019", "'")
    token = token.replace("(", "-lrb-").replace(")", "-rrb-")
    if token == '"' or token.startswith("--") or token in PUNCTUATION:
      continue
    tokens.append(token)
  return tokens
