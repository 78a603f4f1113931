"""Generated parts of benchmarks/README.md, each between two marks."""

import pathlib
import re

README = pathlib.Path(__file__).with_name("README.md")


def put(path: pathlib.Path, name: str, text: str) -> None:
  """Puts Markdown between `<!-- name -->` and `<!-- /name -->` of a file.

  What stood there goes; without the marks the section comes last.
  """
  start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
  old = path.read_text("utf-8") if path.exists() else ""
  block = f"{start}\n\n{text.strip()}\n\n{end}"
  pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
  if pattern.search(old):
    new = pattern.sub(lambda _: block, old)
  elif start in old:
    new = old.replace(start, block, 1)
  else:
    new = f"{old.rstrip()}\n\n{block}\n".lstrip()
  path.write_text(new, "utf-8")


def table(rows: list[list[str]]) -> str:
  """A Markdown table; the first row is the heading, numbers to the right."""
  head, *body = rows
  lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)
