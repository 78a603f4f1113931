"""Object stores on this machine, under the addresses that clients know."""

import contextlib
import logging
import os
import socket

ANYONE = {
  "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anyone",  # tensorstore's
  "GOOGLE_CLOUD_PROJECT": "tests",
  "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it asks Google itself
  "NO_GCE_CHECK": "true",
  "GCE_METADATA_ROOT": "127.0.0.1:1",
  "AWS_ACCESS_KEY_ID": "anyone",
  "AWS_SECRET_ACCESS_KEY": "anything",
  "AWS_DEFAULT_REGION": "us-east-1",
}


@contextlib.contextmanager
def google():
  """A stand-in for Google's store with a bucket `bucket`; yields gs://…"""
  from tests.support import google_store  # what it needs may be missing

  port = _free_port()
  address = f"http://127.0.0.1:{port}"
  named = dict(STORAGE_EMULATOR_HOST=address, TENSORSTORE_GCS_HTTP_URL=address)
  with google_store.serve(port), _environment(ANYONE | named):
    yield "gs://bucket"


@contextlib.contextmanager
def amazon():
  """A stand-in for Amazon's store with a bucket `bucket`; yields s3://…"""
  from moto.server import ThreadedMotoServer

  logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
  server = ThreadedMotoServer("127.0.0.1", _free_port(), verbose=False)
  server.start()
  host, port = server.get_host_and_port()
  named = dict(AWS_ENDPOINT_URL=f"http://{host}:{port}")
  try:
    with _environment(ANYONE | named):
      import s3fs

      s3fs.S3FileSystem().mkdir("s3://bucket")
      yield "s3://bucket"
  finally:
    server.stop()


def _free_port() -> int:
  with socket.socket() as some:
    some.bind(("127.0.0.1", 0))
    return some.getsockname()[1]


@contextlib.contextmanager
def _environment(names: dict[str, str]):
  before = dict(os.environ)
  os.environ.update(names)
  try:
    yield
  finally:
    os.environ.clear()
    os.environ.update(before)


def upload(folder, to) -> str:
  """Copies a folder into a bucket, under the address that is returned."""
  from synpo_jax.runtime import buckets  # its imports wait for the environment

  for path in folder.rglob("*"):
    if path.is_file():
      target = buckets.at(to) / path.relative_to(folder).as_posix()
      target.write_bytes(path.read_bytes())
  return to
