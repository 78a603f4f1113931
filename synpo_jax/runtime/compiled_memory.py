"""What a compiled program needs of its device's memory."""


def peak_bytes(compiled) -> int | None:
  """Bytes needed at once: arguments, results, scratch and the code itself.

  None where the backend does not tell.
  """
  stats = compiled.memory_analysis()
  if stats is None:
    return None
  return int(stats.argument_size_in_bytes) + added_bytes(compiled)


def added_bytes(compiled) -> int:
  """Bytes needed beside the arguments; 0 where the backend does not tell."""
  stats = compiled.memory_analysis()
  if stats is None:
    return 0
  return int(
    stats.output_size_in_bytes
    - stats.alias_size_in_bytes
    + stats.temp_size_in_bytes
    + stats.generated_code_size_in_bytes
  )
