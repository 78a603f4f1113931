"""How a captioner behind model.endpoint is asked, in every config with one."""

import ml_collections


def serving():
  """What model.endpoint serves, where one is set."""
  c = ml_collections.ConfigDict()
  c.model = ""  # the name it is served by there: the model's, or an adapter's
  # images: the frames, one by one. frames: as one video, data:video/jpeg, which
  # vLLM reads. video: the file, of which the server takes frames; a part of it
  # (clips) as with frames.
  c.send = "images"
  c.side = 768  # pixels of a frame's longer side; larger ones are made smaller
  c.most_bytes = 32 * 2**20  # that one request shows; more is a fault
  # What its API has beside temperature and top_p. OpenAI's: seed,n
  c.takes = "top_k,seed,n"
  c.one_fingerprint = True  # all captions by one system_fingerprint, if given
  c.asks = 3  # of one question, until there is an answer
  c.concurrency = 16  # requests at a time
  c.timeout = 600.0  # seconds, of one try
  c.tries = 6  # of one request, while the server is busy or away
  c.first_wait = 1.0  # seconds; doubles from try to try
  c.longest_wait = 300.0
  c.stop_after = 50  # requests in a row without an answer
  c.limit_name = "max_tokens"  # max_completion_tokens for some hosted models
  c.extra = {}  # further fields of a request, as repetition_penalty
  c.prices = dict(prompt=0.0, completion=0.0)  # of a million tokens
  return c
