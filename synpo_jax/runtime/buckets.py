"""Paths in buckets (gs://, s3://, any URL that fsspec knows) beside local ones.

`at` makes a path of a text: a `pathlib.Path`, or for a URL a `BucketPath`,
which has the same methods. An object appears whole when it is written, or not
at all; it cannot grow (`mirror` keeps what does).
"""

import contextlib
import errno
import functools
import glob
import io
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Callable, Iterator

import fsspec

from synpo_jax.runtime.terminal import first_line

URL = re.compile(r"(?!file:)([a-z][a-z0-9+.-]*)://+[^/]")
# What stores say where an object that must be new is there.
TAKEN = re.compile("412|[Pp]re-?[Cc]ondition|conditionNotMet")
STREAM = 1 << 24  # bytes of a file read in one go
HEADERS = 1 << 16  # bytes read ahead where little of a file is wanted
INSTALL = "pip install 'synpo_jax[cloud]', or in a checkout -e '.[cloud]'"


def is_url(path: str | os.PathLike) -> bool:
  """Whether a path lies in a bucket."""
  return URL.match(str(path)) is not None


def at(path: str | os.PathLike) -> pathlib.Path:
  """The path that a text means: local, or in a bucket."""
  if isinstance(path, BucketPath):
    return path
  if is_url(path):
    return BucketPath(str(path))
  return pathlib.Path(str(path).removeprefix("file://"))


def local(path: str | os.PathLike, name: str) -> pathlib.Path:
  """A path on this machine's disks; ValueError for one in a bucket.

  name: of the flag or key that gives it.
  """
  if is_url(path):
    raise ValueError(
      f"{name}={path}: is not written in a bucket; name a folder"
    )
  return pathlib.Path(path)


def join(root: str | os.PathLike, name: str) -> pathlib.Path:
  """`name` from `root` on; a URL, or an absolute path, is meant as it is."""
  if is_url(name) or os.path.isabs(name):
    return at(name)
  return at(root) / name


def matching(pattern: str, root: str | os.PathLike = "") -> list[pathlib.Path]:
  """What a glob stands for; `**` goes down to the bottom."""
  whole = join(root, pattern) if root else at(pattern)
  if isinstance(whole, BucketPath):
    return whole.found(str(whole))
  names = glob.glob(pattern, root_dir=root or None, recursive=True)
  return [pathlib.Path(root, name) for name in names]


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  """All files below a folder; a bucket is asked once."""
  if isinstance(folder, BucketPath):
    return folder.files()
  return [path for path in folder.rglob("*") if path.is_file()]


class BucketPath(pathlib.PosixPath):
  """A path in a bucket, with the methods of pathlib that are used here.

  A folder is there while something lies in it. Raises OSError that names the
  URL, and ValueError, in one line, for a store whose library is not there.
  """

  def __str__(self) -> str:
    scheme, *rest = self.parts or ("",)
    return (
      f"{scheme}//{'/'.join(rest)}"
      if scheme[-1:] == ":"
      else "/".join(self.parts)
    )

  def __fspath__(self) -> str:
    return str(self)

  def is_absolute(self) -> bool:
    return True

  def absolute(self):
    return self

  def resolve(self, strict=False):
    return self

  def exists(self) -> bool:
    return self._ask("exists")

  def is_file(self) -> bool:
    return self._ask("isfile")

  def is_dir(self) -> bool:
    return self._ask("isdir")

  def info(self) -> dict:
    """What the store says of an object."""
    return self._ask("info")

  def version(self) -> str:
    """Differs when the object was written again."""
    info = self.info()
    names = ("generation", "ETag", "etag", "LastModified", "created", "mtime")
    known = (info[name] for name in names if info.get(name))
    return f"{info['size']} {next(known, '')}"

  def stat(self, *, follow_symlinks=True) -> os.stat_result:
    """Size, and the time of the last change in whole seconds."""
    info = self.info()
    times = (info.get(name) for name in ("mtime", "LastModified", "created"))
    time = next((t for t in times if t), 0)
    time = time.timestamp() if hasattr(time, "timestamp") else time
    kind = stat.S_IFDIR if info["type"] == "directory" else stat.S_IFREG
    size, when = info["size"] or 0, int(time)
    return os.stat_result((kind, 0, 0, 1, 0, 0, size, when, when, when))

  def open(
    self, mode="r", buffering=-1, encoding=None, errors=None, newline=None
  ):
    """The object; what is written appears when it is closed."""
    block = STREAM if buffering < 0 else max(buffering, HEADERS)
    raw = self._ask(
      "open", mode=mode.replace("t", "").rstrip("b") + "b", block_size=block
    )
    if "b" in mode:
      return raw
    return io.TextIOWrapper(raw, encoding or "utf-8", errors, newline)

  def part(self, start: int, length: int) -> bytes:
    """`length` bytes from `start` on, by a range request."""
    found = self._ask("cat_file", start=start, end=start + length)
    if len(found) != length:
      raise OSError(f"{self}: ends before byte {start + length}")
    return found

  def read_bytes(self) -> bytes:
    return self._ask("cat_file")

  def read_text(self, encoding=None, errors=None) -> str:
    return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

  def write_bytes(self, data) -> int:
    """Writes the object in one step."""
    self._ask("pipe_file", bytes(data))
    return len(data)

  def write_text(self, data, encoding=None, errors=None, newline=None) -> int:
    return self.write_bytes(data.encode(encoding or "utf-8"))

  def create(self, data: bytes) -> None:
    """Writes a new object; FileExistsError where there is one."""
    try:
      self._ask("pipe_file", data, mode="create")
    except OSError as error:
      if isinstance(error, FileExistsError) or not TAKEN.search(str(error)):
        raise
      raise FileExistsError(errno.EEXIST, "is there", str(self)) from error

  def mkdir(self, mode=0o777, parents=False, exist_ok=False) -> None:
    """Nothing: a bucket has no folders of its own."""

  def unlink(self, missing_ok=False) -> None:
    try:
      self._ask("rm_file")
    except FileNotFoundError:
      if not missing_ok:
        raise

  def iterdir(self) -> Iterator["BucketPath"]:
    return iter(self._below(self._ask("ls", detail=False)))

  def files(self) -> list["BucketPath"]:
    """All objects below this place, sorted."""
    return sorted(self._below(self._ask("find")))

  def glob(self, pattern) -> Iterator["BucketPath"]:
    return iter(self.found(f"{glob.escape(str(self))}/{pattern}"))

  def rglob(self, pattern) -> Iterator["BucketPath"]:
    return self.glob(f"**/{pattern}")

  def found(self, pattern: str) -> list["BucketPath"]:
    """Files and folders of this bucket that a glob stands for."""
    with _told(self):
      names = _system(self.parts[0][:-1]).glob(pattern)
    return sorted(self._below(names))

  def _below(self, names) -> list["BucketPath"]:
    scheme, own = self.parts[0], str(self).rstrip("/")
    whole = (f"{scheme}//{name.split('://')[-1].lstrip('/')}" for name in names)
    return [BucketPath(name) for name in whole if name.rstrip("/") != own]

  def _ask(self, what: str, *given, **how):
    with _told(self):
      return getattr(_system(self.parts[0][:-1]), what)(
        str(self), *given, **how
      )

  def __truediv__(self, name):
    return at(name) if os.path.isabs(str(name)) else super().__truediv__(name)


@functools.cache
def _system(scheme: str) -> fsspec.AbstractFileSystem:
  return fsspec.filesystem(scheme, use_listings_cache=False)


@contextlib.contextmanager
def _told(path: BucketPath) -> Iterator[None]:
  """Errors of a store's library as one line that names the path."""
  try:
    yield
  except FileNotFoundError:
    why = os.strerror(errno.ENOENT)
    raise FileNotFoundError(errno.ENOENT, why, str(path)) from None
  except FileExistsError as error:
    raise FileExistsError(errno.EEXIST, "is there", str(path)) from error
  except ImportError as error:
    raise ValueError(f"{path}: {first_line(error)}: {INSTALL}") from error
  except (TypeError, AttributeError):  # a bug, with its trace
    raise
  except Exception as error:  # each library has its own
    why = f"{type(error).__name__}: {first_line(error)}"
    raise OSError(f"{path}: {why}") from error


@contextlib.contextmanager
def on_disk(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """The file itself, or a copy of an object, which is gone afterwards.

  What is raised in it (ValueError, OSError) speaks of the path, not the copy.
  """
  if not isinstance(path, BucketPath):
    yield path
    return
  with tempfile.TemporaryDirectory(prefix="synpo-") as temp:
    copy = pathlib.Path(temp, path.name)
    fetch(path, copy)
    try:
      yield copy
    except (ValueError, OSError) as error:
      said = str(error).replace(str(copy), str(path))
      kind = OSError if isinstance(error, OSError) else ValueError
      raise kind(said) from error


@contextlib.contextmanager
def copied(
  folder: pathlib.Path, wanted: Callable[[pathlib.Path], bool]
) -> Iterator[pathlib.Path]:
  """The folder itself, or a copy of the objects in it that are wanted."""
  if not isinstance(folder, BucketPath) or not folder.is_dir():
    yield folder
    return
  with tempfile.TemporaryDirectory(prefix="synpo-") as temp:
    for path in filter(wanted, folder.iterdir()):
      fetch(path, pathlib.Path(temp, path.name))
    yield pathlib.Path(temp)


def send(file: pathlib.Path, to: BucketPath) -> None:
  """Copies a file into a bucket; it appears when it is whole."""
  with _told(to):
    _system(to.parts[0][:-1]).put_file(str(file), str(to))


def fetch(path: BucketPath, to: pathlib.Path) -> None:
  """Copies an object to the disk; it appears under its name when whole."""
  to.parent.mkdir(parents=True, exist_ok=True)
  draft = to.with_name(f".{to.name}.{os.getpid()}")
  path._ask("get_file", str(draft))
  os.replace(draft, to)
