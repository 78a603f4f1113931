"""Renders chat templates, one JSON line a request; started as a process.

A template comes with the tokenizer of others and may loop for ever or fill
the memory, so it is rendered where it can be stopped (data/chat_templates.py
does). The environment is that of Transformers, whose import takes seconds.
"""

import datetime
import functools
import json
import resource
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

# What a template can raise, jinja2's own errors and Python's.
MET = (jinja2.TemplateError, TypeError, ValueError, LookupError)
MET += (ArithmeticError, AttributeError, RecursionError, MemoryError)
TODAY = datetime.datetime(2024, 7, 26)  # prompts do not depend on the day


class Generation(jinja2.ext.Extension):
  """`{% generation %}`, which marks answers: its text is kept as it is."""

  tags = {"generation"}

  def parse(self, parser):
    """The statements in between."""
    line = next(parser.stream).lineno
    body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
    return jinja2.nodes.Scope(body).set_lineno(line)


def fail(message):
  """`raise_exception` of a template."""
  raise jinja2.TemplateError(message)


def as_json(
  x, ensure_ascii=False, indent=None, separators=None, sort_keys=False
):
  """The filter `tojson`, without escapes for HTML."""
  return json.dumps(
    x,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


@functools.cache
def compiled(template: str) -> jinja2.Template:
  """The template in Transformers' environment."""
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, jinja2.ext.loopcontrols],
  )
  environment.filters["tojson"] = as_json
  environment.globals["raise_exception"] = fail
  environment.globals["strftime_now"] = TODAY.strftime
  return environment.from_string(template)


def render(template: str, values: dict, most: int) -> dict[str, str]:
  """{"text"}, or {"error"} in one line."""
  pieces, size = [], 0
  try:
    for piece in compiled(template).generate(**values):
      pieces.append(piece)
      size += len(piece)
      if size > most:
        return {"error": f"it writes more than {most:,} characters"}
  except MET as error:
    words = (str(error).strip().splitlines() or [""])[0]
    return {"error": f"{type(error).__name__}: {words}"}
  return {"text": "".join(pieces)}


def main(memory: int):
  """Answers requests until there are none."""
  resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
  print(json.dumps("ready"), flush=True)
  for line in sys.stdin:
    print(json.dumps(render(**json.loads(line))), flush=True)


if __name__ == "__main__":
  main(int(sys.argv[1]))
