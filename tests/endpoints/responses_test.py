"""What a chat endpoint sent back, field by field."""

import email.utils
import json
import time

import pytest

from synpo_jax.endpoints import responses


def body(content="Yes.", **changes):
  message = {"choices": [{"message": {"content": content}}]}
  return json.dumps(message | changes).encode()


@pytest.mark.parametrize(
  ("content", "text"),
  [
    ("Yes.", "Yes."),
    (None, ""),
    ([{"type": "text", "text": "Ye"}, {"type": "text", "text": "s."}], "Yes."),
    ([{"type": "text", "text": None}, {"type": "image_url"}], ""),
  ],
)
def test_text_is_read_whole_or_in_parts(content, text):
  assert responses.read(body(content)).choices[0].text == text


@pytest.mark.parametrize("content", [3, {"text": "Yes."}, [3]])
def test_what_is_no_text_is_named(content):
  with pytest.raises(ValueError, match="no choices"):
    responses.read(body(content))


@pytest.mark.parametrize(
  ("usage", "counts"),
  [
    ({"prompt_tokens": 7, "completion_tokens": 0}, (7, 0)),
    ({"prompt_tokens": 1, "completion_tokens": -1}, (1, 0)),
    ({"prompt_tokens": "7"}, (0, 0)),
    ([7], (0, 0)),
    (None, (0, 0)),
  ],
)
def test_tokens_are_counted_where_they_are_said(usage, counts):
  reply = responses.read(body(usage=usage))
  assert (reply.prompt_tokens, reply.completion_tokens) == counts


@pytest.mark.parametrize(
  ("headers", "seconds"),
  [
    ({}, 0.0),
    ({"retry-after": " 2.5 "}, 2.5),
    ({"retry-after": "3"}, 3.0),
    ({"retry-after": "1.2.3"}, 0.0),
    ({"retry-after": "soon"}, 0.0),
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after-ms": "-1500"}, 0.0),
    ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
  ],
)
def test_how_long_a_server_wants_to_be_left(headers, seconds):
  assert responses.retry_after(headers) == seconds


@pytest.mark.parametrize("zone", [" GMT", " -0000", ""])
def test_a_date_ahead_is_the_seconds_until_then(zone):
  then = email.utils.formatdate(time.time() + 60).removesuffix(" -0000")
  assert 55 < responses.retry_after({"retry-after": then + zone}) <= 60


def test_four_mebibytes_of_a_response_are_read():
  assert responses.LARGEST == 4 * 2**20
