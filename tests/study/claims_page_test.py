"""How learning rates are chosen, and what is told of the study's rows."""

import pytest

from configs import vdc
from synpo_jax.study import figure, grid, looks, pooling, table, verdicts
from synpo_jax.study.grid import Cell

LOSSES = {"synpo": {"alpha": 30.0, "beta": 0.2}, "sft": {}}
LRS = (1.0, 2.0, 3.0, 4.0, 5.0)


def climbed(merits):
  """(rates in the order tried, the one chosen), by F1 of each rate."""
  rows, tried = {}, []
  for one in grid.climb("sft", rows, lrs=LRS, lr_start=3.0, tuning_seed=0):
    rows[one.id] = {"f1": merits[one.lr]}
    tried.append(one)
  return [one.lr for one in tried], grid.best_rate(tried, rows)


def test_a_climb_ends_where_both_neighbours_are_worse():
  assert climbed({2.0: 0.1, 3.0: 0.5, 4.0: 0.2}) == ([2.0, 3.0, 4.0], 3.0)
  up = {2.0: 0.1, 3.0: 0.2, 4.0: 0.5, 5.0: 0.4}
  assert climbed(up) == ([2.0, 3.0, 4.0, 5.0], 4.0)
  to_the_edge = {1.0: 0.9, 2.0: 0.5, 3.0: 0.2, 4.0: 0.1}
  assert climbed(to_the_edge) == ([2.0, 3.0, 4.0, 1.0], 1.0)
  tie = {2.0: 0.5, 3.0: 0.495, 4.0: 0.2}
  assert climbed(tie)[1] == 3.0


def test_methods_by_name():
  method = grid.parse("synpo alpha=10", LOSSES)
  assert method == ("synpo alpha=10", "synpo", {"alpha": 10.0, "beta": 0.2})
  assert LOSSES["synpo"]["alpha"] == 30.0
  method = grid.parse("orpo lam=1 nll=sum", vdc.LOSSES)
  assert method.coefficients == {"lam": 1.0, "nll": "sum"}
  with pytest.raises(ValueError, match="'sinpo' is none of sft, synpo"):
    grid.parse("sinpo", LOSSES)
  with pytest.raises(ValueError, match="no coefficient 'gamma'"):
    grid.parse("synpo gamma=1", LOSSES)


def test_a_method_may_be_a_mixture_changed_in_one_of_its_losses():
  method = grid.parse("mpo sft.weight=2", vdc.MIXTURES)
  assert method.coefficients == vdc.MIXTURES["mpo"] | {"sft": {"weight": 2.0}}
  assert vdc.MIXTURES["mpo"]["sft"] == {"weight": 1.0}
  with pytest.raises(ValueError, match="mpo has no coefficient 'sft.beta'"):
    grid.parse("mpo sft.beta=1", vdc.MIXTURES)


def row(method, lr, seed, kind="cell", **values):
  one = Cell(method, lr, seed, kind)
  blank = dict.fromkeys(table.COLUMNS, 0.0)
  for key in ("chosen_logp", "rejected_logp"):
    blank[key] = -0.5
  blank |= {"chosen_reward_grad_norm": 2e-6, "rejected_reward_grad_norm": 3e-6}
  return {"id": one.id, **one._asdict(), "regime": "truth"} | blank | values


ROWS = [
  row("base", None, None, "base", f1=0.5, f1_by_clip=[0.4, 0.6], bell=None),
  row("synpo", 1e-4, 0, "rate", f1=0.99),
  row("synpo", 1e-3, 0, "rate", f1=1.0),
  row("synpo", 3e-3, 0, "rate", f1=0.5),
  row("dpo", 1e-3, 0, "rate", f1=0.99),
  row("dpo", 3e-3, 0, "rate", f1=0.9),
  row("synpo", 1e-3, 1, f1=0.61, f1_by_clip=[0.51, 0.71]),
  row("synpo", 1e-3, 2, f1=0.65, f1_by_clip=[0.53, 0.77]),
  row("dpo", 1e-3, 1, f1=0.55, f1_by_clip=[0.45, 0.65]),
  row("dpo", 1e-3, 2, f1=0.55, f1_by_clip=[0.45, 0.65]),
  row("forced", None, None, "control", f1=0.5, f1_by_clip=[0.4, 0.6]),
  row("dpo", 1e-3, 1, "second", f1=0.7, f1_by_clip=[0.6, 0.8]),
  row(
    *("dpo", 4e-3, 0, "collapse"),
    f1=0.4,
    fluency=3.0,
    language_logp=-1.0,
    seen=[{"step": s, "f1": 0.5, "chosen_logp": -1.0} for s in (0, 10)],
  ),
]
TIMES = [
  {"method": m, "seconds_per_step": s, "spread": [s, s], "peak_bytes": 3e6}
  for m, s in (("synpo", 0.6), ("dpo", 0.8))
]
FOUND = {"rows": ROWS, "timing": TIMES}


def test_differences_by_hand():
  """Clips: .12 and .14 gained on average; seeds: means .61 and .65."""
  cells = pooling.select(ROWS, "truth", "cell")
  base = pooling.select(ROWS, "truth", "base")["base"]
  gain = pooling.f1_difference(cells["synpo"], base)
  assert gain.value == pytest.approx(0.13)
  clips, seeds = 0.01, 0.02  # deviations .0141 and .0283, over sqrt(2)
  assert gain.error == pytest.approx((clips**2 + seeds**2) ** 0.5)
  assert gain.beyond() == 1
  assert pooling.Figure(0.02, 0.011).beyond() == 0
  assert pooling.Figure(-0.03, 0.01).beyond() == -1
  assert pooling.Figure(1.0, None).beyond() == 0
  mean = pooling.over_seeds(cells["synpo"], "f1")
  assert mean == (pytest.approx(0.63), pytest.approx(0.02))
  assert pooling.over_seeds(base, "bell") is None


def test_the_table_by_hand():
  lines = table.markdown(ROWS, "truth").splitlines()
  names = [line.split(" | ")[0] for line in lines]
  assert names[0] == "| method"
  assert names[2:] == [
    *("| before training", "| control: forced", "| synpo", "| dpo"),
    "| dpo, second round",
  ]
  base, _, synpo, dpo, again = (line.split(" | ") for line in lines[2:])
  assert base[1:4] == ["-", "50.0", "0.0"] and base[-2] == "-"
  assert synpo[1:4] == ["0.001", "63.0 ± 2.0", "13.0 ± 2.2"]
  assert dpo[1] == "0.001*"  # the smallest rate that was tried
  assert again[2] == "70.0"


def test_verdicts_follow_the_figures():
  told = verdicts.lines(FOUND)
  assert "truth: SynPO changes F1 of claims by +13.0 ± 2.2" in told[0]
  assert "the best control, forced, by +0.0 ± 0.0" in told[0]
  assert "above DPO and kin holds here" in told[1]
  assert "dpo +8.0 ± 2.2" in told[1]
  assert "cannot be seen here" in told[2] and "1.50 (DPO 1.50)" in told[2]
  assert told[4].startswith("truth: dpo trained for 10 updates at 0.004 ends")
  assert "F1 40.0, fluency 3.00, log-prob of true captions -1.00" in told[4]
  assert "20 % cheaper than DPO: holds here" in told[-1] and "0.75" in told[-1]
  worse = [
    one | {"f1_by_clip": [0.9, 1.0]} if one["method"] == "dpo" else one
    for one in ROWS
  ]
  told = verdicts.lines({"rows": worse, "timing": TIMES[:1]})
  assert "above DPO and kin does not hold here" in told[1]
  assert "cheaper" not in told[-1]


def test_falling_chosen_captions_are_a_verdict():
  rows = [
    one | {"chosen_logp_drift": -0.3 + 0.01 * (one["seed"] or 0)}
    for one in ROWS
  ]
  told = verdicts.lines({"rows": rows, "timing": TIMES})
  assert "negatives do not dominate: does not hold here" in told[2]


def test_the_tables_go_between_their_marks(tmp_path):
  path = tmp_path / "README.md"
  path.write_text(f"before\n{table.START}\nearlier\n{table.END}\nafter\n")
  picture = tmp_path / "results" / "claims_truth.png"
  table.into(path, FOUND, [picture])
  table.into(path, FOUND, [picture])
  text = path.read_text()
  assert text.startswith("before\n") and text.endswith("after\n")
  assert "earlier" not in text and text.count("| before training |") == 1
  assert text.count("](results/claims_truth.png)") == 1
  assert "seeds 1, 2;" in text and "| synpo | 0.600 |" in text
  (tmp_path / "no.md").write_text("x")
  with pytest.raises(ValueError, match="no lines"):
    table.into(tmp_path / "no.md", FOUND, [picture])


def test_the_figures_are_drawn(tmp_path):
  paths = figure.draw(ROWS, tmp_path / "new" / "claims.json")
  assert [path.name for path in paths] == [
    "claims_truth.png",
    "claims_collapse.png",
  ]
  for path in paths:
    assert path.stat().st_size > 15_000


def test_steps_to_half_the_gain():
  seen = [{"step": s, "f1": f1} for s, f1 in ((5, 0.52), (10, 0.58), (15, 0.6))]
  seen.insert(1, {"step": 8, "bell": 0.9})
  assert looks.steps_to_half(seen, 0.5) == 10
  assert looks.steps_to_half(seen, 0.7) is None
  assert looks.steps_to_half([], 0.5) is None


def test_one_seed_has_no_error_over_seeds():
  rows = [one for one in ROWS if one["seed"] != 2]
  told = verdicts.lines({"rows": rows, "timing": []})
  assert "by +11.0 ± 0.0; the best control" in told[0]  # over clips
  assert told[3].endswith("less DPO's +0.000; fluency less DPO's +0.000")
