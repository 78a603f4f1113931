"""Work done once: the same numbers, computed once, never silently wrong."""

import contextlib
import dataclasses
import io
import itertools
import json
import pathlib
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import clips
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import run_config
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from synpo_jax import (
  caches,
  encoding,
  feature_cache,
  layout,
  loading,
  optim,
  reference_cache,
  sharding,
  update,
)
from synpo_jax.data import pipeline, records, text, video
from synpo_jax.models.captioner import Captioner
from synpo_jax.models.config import LoraConfig, captioner_config
from synpo_jax.models.digest import digest

RULE = video.FrameRule(min_frames=1, max_frames=4, frames_per_second=1.0)
HOW = dict(layout="shared", head_chunk=8)
DPO = dict(name="dpo", coefficients=dict(beta=0.1))


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  """Clips of 1 to 4 seconds, a random captioner with an adapter, its mesh."""
  folder = tmp_path_factory.mktemp("caches")
  for seconds in range(1, 5):
    clip = dict(size=(48, 48), rate=5, codec="mjpeg", pixels="yuvj420p")
    clips.stamped(folder / f"v{seconds}.avi", 5 * seconds, **clip)
  c = run_config.get_config(folder)
  arch = c.model.arch.to_dict()
  arch["visual_encoder"] |= dict(num_hidden_layers=2, patch_size=16)
  arch["visual_encoder"] |= dict(kept_ratio=1.0)  # compiles faster
  arch["llm"] |= dict(num_hidden_layers=1)
  model = Captioner(captioner_config(arch), LoraConfig(4, 4.0, 0.0))
  mesh = sharding.make_mesh(data=2, fsdp=1, model=1, devices=jax.devices()[:2])
  variables = loading.load_variables(model, "", mesh, 0)
  tx, _ = optim.make(**c.optim, updates=4)
  objective = update.make_objective(model, HOW, **DPO)
  write_pairs(folder, ["v1.avi", "v2.avi", "v3.avi"])
  return SimpleNamespace(
    folder=folder,
    c=c,
    tokenizer=text.load_tokenizer(c.model.tokenizer),
    model=model,
    mesh=mesh,
    variables=variables,
    tower=variables["params"]["tower"],
    tx=tx,
    step=jax.jit(update.make_train_step(objective, tx, dropout=False)),
  )


def write_pairs(folder, videos, more=()):
  rows = [
    {
      "id": str(number),
      "question": "Describe the video.",
      "chosen": "the red circle moves " * (1 + number % 2),
      "rejected": "the blue square moves",
      **({"video": name} if name else {}),
    }
    for number, name in enumerate([*videos, *more])
  ]
  path = folder / "pairs.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(setting, cache, size=(48, 48), epochs=2, rule=RULE, **changed):
  values = dict(
    pairs=str(setting.folder / "pairs.jsonl"),
    videos=str(setting.folder),
    cache=str(cache),
    question=None,
    template="aurora",
    min_score_gap=None,
    max_len=256,
    too_long="drop",
    prefix_buckets=(128,),
    response_buckets=(16,),
    frame_buckets=(4,),
    batch_size=2,
    accumulation=1,
    workers=0,
  )
  return pipeline.make(
    pipeline.Settings(**values | changed),
    rule=rule,
    how=video.Preprocess(size=size),
    tokenizer=setting.tokenizer,
    blocks=setting.model.config.blocks,
    captions=2,
    epochs=epochs,
    seed=0,
  )


@pytest.fixture(scope="module")
def one_encoder(setting):
  """The tower is compiled once for all tests."""
  encode = encoding.make_encoder(setting.model, setting.tower, 4)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(encoding, "make_encoder", lambda *_: encode)
    yield


def features(setting, cache, verify=0):
  return feature_cache.make(
    setting.model, setting.tower, cache, frames_at_once=4, verify=verify
  )


@pytest.fixture(scope="module")
def filled(setting, one_encoder):
  """A cache that holds the features of the three videos, and the data."""
  data = read(setting, setting.folder / "cache")
  return features(setting, setting.folder / "cache", verify=4)(data)


@pytest.fixture
def copied(setting, filled, tmp_path):
  """The same cache for a test that spoils it."""
  shutil.copytree(setting.folder / "cache", tmp_path / "cache")
  (folder,) = (tmp_path / "cache").glob("features-*")
  return SimpleNamespace(root=tmp_path / "cache", folder=folder)


def said(capsys):
  lines = capsys.readouterr().out.splitlines()
  return [line for line in lines if line.startswith(("features", "referen"))]


def none_encoded(monkeypatch):
  def refuse(*_):
    raise AssertionError("the tower ran")

  def make(*_):
    return lambda frames, numbers: refuse() if len(numbers) else iter(())

  monkeypatch.setattr(encoding, "make_encoder", make)


def test_features_are_what_the_tower_computes(setting, filled):
  encode = jax.jit(
    lambda variables, frames: setting.model.apply(
      variables, frames, method="encode"
    )
  )
  data = read(setting, setting.folder / "cache")
  counts = [data.frames.count(n) for n in range(3)]
  assert counts == [1, 2, 3]
  for number, count in enumerate(counts):
    fresh = encode(setting.variables, data.frames(number)[None, :1])[0, 0]
    stored = filled.batches.visual(number)
    assert stored.dtype == ml_dtypes.bfloat16 and len(stored) == count
    # A value between two bfloat16 may go either way.
    np.testing.assert_allclose(
      stored[0].astype("f4"), fresh, rtol=2**-8, atol=1e-5
    )
  batch, same = data.batches[0], filled.batches[0]
  assert "frames" not in same and same["features"].shape[:3] == (1, 2, 4)
  np.testing.assert_array_equal(batch["prefix"], same["prefix"])


def test_a_second_run_computes_nothing(setting, filled, monkeypatch, capsys):
  none_encoded(monkeypatch)
  data = read(setting, setting.folder / "cache")
  again = features(setting, setting.folder / "cache")(data)
  assert said(capsys) == ["features: 3 read, 0 computed; verified 0"]
  for i in range(len(filled.batches)):
    one, other = filled.batches[i], again.batches[i]
    np.testing.assert_array_equal(one["features"], other["features"])


def test_only_new_videos_are_computed_wherever_the_old_ones_lie(
  setting, copied, tmp_path, capsys
):
  moved = tmp_path / "moved"
  shutil.copytree(setting.folder, moved, ignore=lambda *_: ["cache"])
  write_pairs(moved, ["v4.avi", "v3.avi", "v2.avi", "v1.avi"])
  data = read(
    setting, copied.root, pairs=str(moved / "pairs.jsonl"), videos=str(moved)
  )
  features(setting, copied.root)(data)
  assert said(capsys) == ["features: 3 read, 1 computed; verified 0"]


def other_weights(setting):
  kernel = setting.tower["patch"]["kernel"]
  patch = setting.tower["patch"] | {"kernel": kernel.at[0, 0, 0, 0].add(1e-3)}
  return dict(tower=setting.tower | {"patch": patch})


def other_ratio(setting):
  config = setting.model.config.with_kept_ratio(0.6)
  return dict(model=setting.model.clone(config=config))


def other_dtype(setting):
  return dict(model=setting.model.clone(dtype=jnp.bfloat16))


def other_pixels(setting):
  tower = dataclasses.replace(setting.model.config.tower, mean=(0.1, 0.2, 0.3))
  config = dataclasses.replace(setting.model.config, tower=tower)
  return dict(model=setting.model.clone(config=config))


@pytest.mark.parametrize(
  "change", [other_weights, other_ratio, other_dtype, other_pixels]
)
def test_another_tower_never_meets_old_features(setting, copied, change):
  setting_name = feature_cache._setting
  changed = dict(model=setting.model, tower=setting.tower) | change(setting)
  assert copied.folder.name.endswith(setting_name(setting.model, setting.tower))
  assert not copied.folder.name.endswith(setting_name(**changed))


def test_other_frames_of_a_video_are_other_keys(setting, filled, tmp_path):
  same = read(setting, tmp_path / "cache")
  rule = video.FrameRule(min_frames=2, max_frames=4, frames_per_second=1.0)
  other = read(setting, tmp_path / "cache", rule=rule)
  bright = read(setting, tmp_path / "cache", size=(32, 32))
  for number in range(3):
    key = filled.frames.digest(number)
    assert same.frames.digest(number) == key
    assert bright.frames.digest(number) != key
  assert other.frames.digest(0) != same.frames.digest(0)  # 2 frames, not 1
  assert other.frames.digest(2) == same.frames.digest(2)  # 3 as before


def spoil(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


def test_a_spoiled_record_is_never_used(setting, copied):
  (data_file,) = copied.folder.glob("*.array_record")
  attached = features(setting, copied.root)(read(setting, copied.root))
  array = attached.batches.visual(1)
  start = data_file.read_bytes().index(array.tobytes())
  spoil(data_file, start + 10)
  again = features(setting, copied.root)(read(setting, copied.root))
  again.batches.visual(0)
  with pytest.raises(records.Damaged, match=f"{data_file}, record 1: .*delete"):
    again.batches.visual(1)


def test_a_torn_file_is_said_and_computed_anew(setting, copied, capsys):
  (data_file,) = copied.folder.glob("*.array_record")
  data_file.write_bytes(data_file.read_bytes()[:-100])
  features(setting, copied.root)(read(setting, copied.root))
  first, second = said(capsys)
  assert first.startswith(f"features: {data_file} is torn")
  assert second == "features: 0 read, 3 computed; verified 0"
  assert not data_file.exists()


def test_other_content_under_the_right_key_is_found_at_the_start(
  setting, copied
):
  entries = records.inventory(copied.folder)
  keys, reader = list(entries), records.Reader(list(entries.values()))
  wrong = {key: reader(n) * 1.02 for n, key in enumerate(keys)}
  for path in copied.folder.glob("*.*"):
    path.unlink()
  records.write(copied.folder, wrong)
  data = read(setting, copied.root)
  with pytest.raises(ValueError, match=r"v1.avi are 0.02\d* off .*features=F"):
    features(setting, copied.root, verify=1)(data)


def test_a_checksum_is_compared_even_where_the_file_is_sound(tmp_path):
  records.write(tmp_path, {"a": np.arange(4, dtype=np.float32)})
  (entry,) = records.inventory(tmp_path).values()
  reader = records.Reader([entry._replace(checksum=entry.checksum ^ 1)])
  with pytest.raises(records.Damaged, match="record 0: its checksum differs"):
    reader(0)


# What a process that is killed while it stores its third file leaves.
KILLED = """
import os, pathlib, signal, sys
import numpy as np
from synpo_jax import journal
from synpo_jax.data import records
folder, where = pathlib.Path(sys.argv[1]), sys.argv[2]
writer, rewrite, made = records.ArrayRecordWriter, journal.rewrite, []
def die(*_):
  os.kill(os.getpid(), signal.SIGKILL)
class Dying(writer):
  def write(self, content):
    super().write(content)
    if len(made) == 3 and where == "data": die()
def opened(*arguments):
  made.append(1)
  return Dying(*arguments)
def listed(*arguments):
  if len(made) == 3 and where == "list": die()
  rewrite(*arguments)
records.ArrayRecordWriter, journal.rewrite = opened, listed
arrays = ((str(i), np.full(9, i, np.float32)) for i in range(9))
records.write_all(folder, arrays, 2)
"""


@pytest.mark.parametrize("where", ["data", "list"])
def test_a_killed_process_loses_only_the_file_it_was_at(tmp_path, where):
  command = [sys.executable, "-c", KILLED, str(tmp_path), where]
  done = subprocess.run(command, cwd=pathlib.Path(__file__).parent.parent)
  assert done.returncode == -signal.SIGKILL
  assert len(list(tmp_path.glob("*.array_record"))) == 3
  entries = records.inventory(tmp_path)
  assert sorted(entries) == ["0", "1", "2", "3"]
  assert records.clean(tmp_path) == []
  assert len(list(tmp_path.glob("*.array_record"))) == 2
  reader = records.Reader([entries[str(n)] for n in range(4)])
  for number in range(4):
    np.testing.assert_array_equal(reader(number), np.full(9, number, "f4"))


def test_a_stopped_run_goes_on_with_what_is_missing(
  setting, tmp_path, monkeypatch, capsys
):
  data = read(setting, tmp_path)
  write = records.write

  def once(folder, arrays):
    monkeypatch.setattr(records, "write", stop)
    write(folder, arrays)

  def stop(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(feature_cache, "CHUNK", 2)
  monkeypatch.setattr(records, "write", once)
  with pytest.raises(KeyboardInterrupt):
    features(setting, tmp_path)(data)
  monkeypatch.setattr(records, "write", write)
  features(setting, tmp_path)(data)
  assert said(capsys) == ["features: 2 read, 1 computed; verified 0"]


def test_every_process_takes_its_share(setting, tmp_path, monkeypatch):
  data = read(setting, tmp_path)
  attach = features(setting, tmp_path)
  monkeypatch.setattr(feature_cache, "_share", lambda: slice(1, None, 2))
  with pytest.raises(ValueError, match="no features of v1.avi, .* all proc"):
    attach(data)
  (folder,) = tmp_path.glob("features-*")
  assert list(records.inventory(folder)) == [data.frames.digest(1)]
  monkeypatch.setattr(feature_cache, "_share", lambda: slice(None))
  attach(data)
  assert len(records.inventory(folder)) == 3


def references(setting, cache, verify=0):
  params = setting.variables["params"]
  return reference_cache.make(
    setting.model, params, cache, setting.mesh, HOW, verify=verify
  )


@pytest.fixture(scope="module", params=["features", "text"])
def case(request, setting, filled):
  """Data with a video and of text alone, and their cached references."""
  data, cache = filled, setting.folder / f"cache_{request.param}"
  if request.param == "text":
    folder = setting.folder / "text"
    folder.mkdir()
    write_pairs(folder, [None] * 3)
    data = read(setting, cache, pairs=str(folder / "pairs.jsonl"))
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    cached = references(setting, cache, verify=4)(data)
  return SimpleNamespace(
    data=data, cache=cache, cached=cached, said=printed.getvalue()
  )


def train(setting, batches):
  """Losses of DPO updates, and the adapter they leave."""
  trained, frozen = update.split(setting.variables, "lora/.*")
  state, losses = update.init_state(trained, setting.tx), []
  for index in range(len(batches)):
    batch = sharding.put_batch(batches[index], setting.mesh)
    state, metrics = setting.step(state, frozen, batch, jax.random.key(0))
    losses.append(float(metrics["loss"]))
  return np.array(losses), state.trained


def test_cached_references_are_those_of_the_step(setting, case):
  assert case.said == "references: 0 read, 3 computed; verified 3\n"
  in_step = jax.jit(
    lambda variables, batch: layout.reference_logps(
      setting.model, variables, batch, **HOW
    )
  )
  batch = {name: x[0] for name, x in case.data.batches[0].items()}
  np.testing.assert_allclose(
    case.cached.batches[0]["ref_logps"][0],
    in_step(setting.variables, batch),
    rtol=1e-6,
  )


def test_cached_references_train_as_those_of_the_step(setting, filled):
  losses, adapter = train(setting, filled.batches)
  attach = references(setting, setting.folder / "cache_features")
  same, other = train(setting, attach(filled).batches)
  np.testing.assert_allclose(same, losses, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), adapter, other
  )
  assert np.ptp(losses) > 1e-3  # it learned


def test_rows_are_computed_once_whatever_the_order(setting, case, capsys):
  again = references(setting, case.cache)(case.data)
  assert said(capsys) == ["references: 3 read, 0 computed; verified 0"]
  values = again.batches.references
  np.testing.assert_array_equal(values, case.cached.batches.references)
  for index in range(len(again.batches)):
    batch = again.batches[index]
    real = batch["row"] >= 0
    np.testing.assert_array_equal(
      batch["ref_logps"][real], values[batch["row"][real]]
    )


def test_what_the_reference_reads_is_in_the_key(setting, filled):
  data = read(setting, setting.folder / "cache")
  keys = reference_cache.row_keys(data)
  assert len(set(keys)) == 3
  assert not set(keys) & set(reference_cache.row_keys(filled))
  rows = data.batches.rows
  for field in ("prefix", "response"):
    ragged = getattr(rows, field)
    values = ragged.values.copy()
    values[ragged.starts[1] - 1] += 1
    ragged = type(ragged)(values, ragged.starts)
    changed = rows._replace(**{field: ragged})
    other = data.batches.once(np.arange(3))
    other.rows = changed
    now = reference_cache.row_keys(data._replace(batches=other))
    assert [a == b for a, b in zip(keys, now, strict=True)] == [False, 1, 1]
  name = reference_cache._setting
  params, model = setting.variables["params"], setting.model
  plain = model.clone(lora=None)
  assert name(plain, params) == name(model, params)
  scale = {"scale": params["decoder"]["norm"]["scale"] * 1.001}
  decoder = params["decoder"] | {"norm": scale}
  assert name(model, params | {"decoder": decoder}) != name(model, params)


def test_a_wrong_reference_is_found_at_the_start(setting, filled, tmp_path):
  references(setting, tmp_path)(filled)
  (folder,) = tmp_path.glob("references-*")
  entries = records.inventory(folder)
  reader = records.Reader(list(entries.values()))
  wrong = {key: reader(n) * np.float32(1.001) for n, key in enumerate(entries)}
  for path in folder.glob("*.*"):
    path.unlink()
  records.write(folder, wrong)
  with pytest.raises(ValueError, match="pair 0 is .*references=False"):
    references(setting, tmp_path, verify=1)(filled)


def test_features_change_the_losses_by_their_rounding_only(setting, filled):
  """bfloat16 has 8 bits; a loss of DPO starts at log 2 for any features."""
  data = read(setting, setting.folder / "cache")
  exact, _ = train(setting, data.batches)
  rounded, _ = train(setting, filled.batches)
  np.testing.assert_allclose(rounded, exact, rtol=2e-3)
  assert (rounded != exact).any()


def test_what_training_changes_is_not_cached(setting, filled):
  c, how = setting.c.copy_and_resolve_references(), HOW

  def make(pattern):
    c.trainable = pattern
    split = update.split(setting.variables, pattern)
    return caches.make(c, setting.model, *split, setting.mesh, how)

  with pytest.raises(ValueError, match="cache.features needs a frozen tower"):
    make("params/.*")
  c.cache.features, c.loss.name = False, "dpo"
  with pytest.raises(ValueError, match="cache.references .* trains projector"):
    make("(lora|params/projector)/.*")
  c.cache.references = False
  assert make("params/.*")(filled) is filled


def test_a_digest_tells_weights_and_not_places(setting):
  devices = jax.devices()
  tree = {"w": jax.random.normal(jax.random.key(0), (8, 6)), "b": jnp.ones(8)}
  name = digest(tree)
  for shape, spec in itertools.product(((8, 1), (4, 2)), (P("x"), P("x", "y"))):
    mesh = jax.sharding.Mesh(np.array(devices).reshape(shape), ("x", "y"))
    places = {"w": NamedSharding(mesh, spec), "b": NamedSharding(mesh, P("x"))}
    assert digest(jax.device_put(tree, places)) == name
  w = tree["w"]
  for other in (
    w.at[3, 2].add(1e-6),
    w.at[0].set(w[1]).at[1].set(w[0]),
    w.T,
    w.reshape(6, 8),
    w.astype(jnp.bfloat16),
  ):
    assert digest(tree | {"w": other}) != name
  assert digest({"v": tree["w"], "b": tree["b"]}) != name
