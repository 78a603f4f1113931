"""The captioner as the stages know it (a placeholder until it is wired)."""


def open_writer(**settings):
  raise ValueError(f"no captioner yet for {settings}")
