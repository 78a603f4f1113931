"""Files that are no JSON lines, told by how they begin: what they are."""

import re
from pathlib import Path

HEAD = 4096  # bytes that are looked at

# How a file begins -> what it is, and what makes JSON lines of it.
UNPACK = "unpack it first ({tool} {name})"
TABLE = "write its rows as JSON lines, one object a line"
BEGINNINGS = (
  (b"\x1f\x8b", "gzip", UNPACK.replace("{tool}", "gunzip")),
  (b"BZh", "bzip2", UNPACK.replace("{tool}", "bunzip2")),
  (b"\xfd7zXZ\0", "xz", UNPACK.replace("{tool}", "unxz")),
  (b"\x28\xb5\x2f\xfd", "zstd", UNPACK.replace("{tool}", "unzstd")),
  (b"PK\x03\x04", "a zip archive", UNPACK.replace("{tool}", "unzip")),
  (b"PAR1", "Parquet", TABLE),
  (b"ARROW1", "Arrow", TABLE),
  (b"\xff\xff\xff\xff", "an Arrow stream", TABLE),
  (b"\x89HDF", "HDF5", TABLE),
  (b"SQLite format 3\0", "an SQLite database", TABLE),
  (b"Obj\x01", "Avro", TABLE),
  (b"\x93NUMPY", "a NumPy array", TABLE),
  (b"\x80\x02", "a pickle", TABLE),
  (b"\x80\x03", "a pickle", TABLE),
  (b"\x80\x04", "a pickle", TABLE),
  (b"\x80\x05", "a pickle", TABLE),
)
RECODE = "save it as UTF-8 (iconv -f {code} -t UTF-8 {name})"
CODES = (  # the longer marks first
  (b"\xff\xfe\0\0", "UTF-32"),
  (b"\0\0\xfe\xff", "UTF-32"),
  (b"\xff\xfe", "UTF-16"),
  (b"\xfe\xff", "UTF-16"),
)
ARRAY = (
  "one JSON array, not JSON lines; write one object a line (jq -c '.[]' {name})"
)
SPREAD = (
  "JSON spread over many lines, not JSON lines; write one object a line "
  "(jq -c . {name})"
)


def check_json_lines(path: Path) -> None:
  """Raises ValueError, in one line, for a file that is something else."""
  with path.open("rb") as file:
    check_head(path, file.read(HEAD))


def check_head(path: Path, head: bytes) -> None:
  """The same, of how a file begins, once unpacked."""
  found = _binary(head) or _spread(head)
  if found is not None:
    raise ValueError(f"{path}: is {found.replace('{name}', path.name)}")


def binary(head: bytes) -> str | None:
  """What begins so, a name of BEGINNINGS; None for what may be text."""
  whats = (what for begins, what, _ in BEGINNINGS if head.startswith(begins))
  return next(whats, None)


def is_array(head: bytes) -> bool:
  """Whether what begins so is a JSON array of objects, or an empty one."""
  text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
  return re.match(rb"\[\s*[\]{]", text) is not None


def _binary(head: bytes) -> str | None:
  """What is not even UTF-8 text, and what to do; None for what may be."""
  for begins, what, way in BEGINNINGS:
    if head.startswith(begins):
      return f"{what}, not JSON lines; {way}"
  for begins, code in CODES:
    if head.startswith(begins):
      return f"{code} text; {RECODE.replace('{code}', code)}"
  if head and not head.strip(b"\0"):
    return (
      "filled with zero bytes, as a machine leaves a file that it did not "
      "finish writing; bring it here anew"
    )
  if re.match(rb"(?:[\t\n\r -~]\0){2}", head):
    return f"UTF-16 text; {RECODE.replace('{code}', 'UTF-16LE')}"
  if re.match(rb"(?:\0[\t\n\r -~]){2}", head):
    return f"UTF-16 text; {RECODE.replace('{code}', 'UTF-16BE')}"
  return None


def _spread(head: bytes) -> str | None:
  """JSON that is not one object a line."""
  text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
  if re.match(rb"\[\s*[\[\]{]", text):
    return ARRAY
  return SPREAD if re.match(rb"\{\s*[\n\r]", text) else None
