"""A model hub on this machine: what huggingface_hub asks of one, no more."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants, file_download

LFS = 1000  # bytes from which a file goes the large files' way
COMMIT = "c0ffee00" * 5


class Hub:
  """What was pushed, by path; what is handed out; how requests are answered.

  failing: {beginning of a request's path: status}. tokens: what came with each.
  commit: that is handed out. url: for programs of their own, as HF_ENDPOINT.
  """

  def __init__(self):
    self.pushed, self.large, self.made = {}, {}, []
    self.files, self.failing, self.tokens = {}, {}, set()
    self.url, self.private, self.commit = "", None, COMMIT


@contextlib.contextmanager
def serving(monkeypatch, cache):
  """A Hub that huggingface_hub asks in this process; cache: its folder."""
  hub = Hub()
  handler = type("Bound", (_Handler,), {"hub": hub})
  server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  hub.url = url = f"http://127.0.0.1:{server.server_port}"

  pattern = url + "/{repo_id}/resolve/{revision}/{filename}"
  monkeypatch.setattr(constants, "ENDPOINT", url)
  monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", pattern)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
  try:
    yield hub
  finally:
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *args):
    pass

  def do_POST(self):
    self._answer()

  do_GET = do_PUT = do_HEAD = do_POST

  def _answer(self):
    size = int(self.headers.get("Content-Length") or 0)
    body, path = self.rfile.read(size), self.path.partition("?")[0]
    self.hub.tokens.add(self.headers.get("Authorization"))
    for beginning, status in self.hub.failing.items():
      if path.startswith(beginning):
        return self._send(status, {"error": "as it\nwas told"})
    for pattern, answer in ANSWERS.items():
      if match := re.fullmatch(pattern, path):
        return answer(self, body, *match.groups())
    self._send(404, {"error": f"no {self.command} {path}"})

  def _url(self):
    return f"http://127.0.0.1:{self.server.server_port}"

  def _send(self, status, content, **headers):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
      headers["Content-Type"] = "application/json"
    self.send_response(status)
    self.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
      self.send_header(name.replace("_", "-"), value)
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(content)

  def create(self, body):
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if name in self.hub.made:
      told = {"error": "You already created this model repo"}
      return self._send(409, told | {"url": f"{self._url()}/{name}"})
    self.hub.made.append(name)
    self.hub.private = asked["private"]
    self._send(200, {"url": f"{self._url()}/{name}"})

  def check_card(self, body):
    self._send(200, {"errors": [], "warnings": []})

  def preupload(self, body, name):
    ways = [
      {
        "path": file["path"],
        "uploadMode": "lfs" if file["size"] >= LFS else "regular",
        "shouldIgnore": False,
      }
      for file in json.loads(body)["files"]
    ]
    self._send(200, {"files": ways})

  def batch(self, body, name):
    objects = [
      one
      | {"actions": {"upload": {"href": f"{self._url()}/large/{one['oid']}"}}}
      for one in json.loads(body)["objects"]
    ]
    self._send(200, {"transfer": "basic", "objects": objects})

  def put(self, body, oid):
    assert hashlib.sha256(body).hexdigest() == oid
    self.hub.large[oid] = body
    self._send(200, {})

  def commit(self, body, name):
    for line in map(json.loads, body.splitlines()):
      value = line["value"]
      if line["key"] == "file":
        self.hub.pushed[value["path"]] = base64.b64decode(value["content"])
      if line["key"] == "lfsFile":
        self.hub.pushed[value["path"]] = self.hub.large[value["oid"]]
    where = f"{self._url()}/{name}/commit/{COMMIT}"
    self._send(200, {"commitUrl": where, "commitOid": COMMIT, "hookOutput": ""})

  def info(self, body, name, revision=None):
    pinned = revision and re.fullmatch("[0-9a-f]{40}", revision)
    commit = revision if pinned else self.hub.commit
    siblings = [{"rfilename": path} for path in self.hub.files]
    self._send(200, {"id": name, "sha": commit, "siblings": siblings})

  def resolve(self, body, name, revision, path):
    content = self.hub.files[path]
    digest = hashlib.sha256(content).hexdigest()
    self._send(200, content, ETag=f'"{digest}"', X_Repo_Commit=revision)


NAME = r"([\w-]+/[\w.-]+)"
ANSWERS = {
  "/api/repos/create": _Handler.create,
  "/api/validate-yaml": _Handler.check_card,
  f"/api/models/{NAME}/preupload/main": _Handler.preupload,
  f"/{NAME}.git/info/lfs/objects/batch": _Handler.batch,
  "/large/(.*)": _Handler.put,
  f"/api/models/{NAME}/commit/main": _Handler.commit,
  f"/api/datasets/{NAME}(?:/revision/([^/]+))?": _Handler.info,
  f"/datasets/{NAME}/resolve/([^/]+)/(.*)": _Handler.resolve,
  f"/api/models/{NAME}(?:/revision/([^/]+))?": _Handler.info,
  f"/{NAME}/resolve/([^/]+)/(.*)": _Handler.resolve,
}
