"""What is said of a copy names what it is a copy of."""

import pytest

from synpo_jax.runtime import retold


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (OSError("gs://b/run: HttpError: 503"), "gs://b/run: HttpError: 503"),
    (OSError("/copy/x: it is cut"), "gs://b/x: it is cut"),
    (FileNotFoundError(2, "none", "/copy/x"), "[Errno 2] none: 'gs://b/x'"),
    (ValueError("/copy: odd"), "gs://b: odd"),
  ],
)
def test_an_error_keeps_its_words_but_for_the_names(error, said):
  with pytest.raises(type(error)) as told:
    with retold.as_named({"/copy": "gs://b"}):
      raise error
  assert str(told.value) == said
