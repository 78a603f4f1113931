"""Which curves of a run are drawn, in which figure, under which title."""

from typing import NamedTuple


class Panel(NamedTuple):
  """One figure: `lines` maps a column of the rows to its label."""

  name: str
  title: str
  lines: dict[str, str]
  ylabel: str
  source: str = "metrics"  # which rows of the run
  log_y: bool = False
  level: float | None = None  # a grey line to compare with
  missing: str = "no row has it"  # why there may be nothing to draw


PANELS = {
  "Rewards": (
    Panel(
      "logp",
      "Log-prob of the captions",
      {
        "chosen_logp": "chosen",
        "rejected_logp": "rejected",
        "gold_logp": "reference caption",
      },
      "mean log-prob per token",
    ),
    Panel(
      "geo_prob",
      "Geometric-mean probability S",
      {"chosen_geo_prob": "chosen", "rejected_geo_prob": "rejected"},
      "S",
    ),
  ),
  "Gradients": (
    Panel(
      "reward_grad_norms",
      "Gradient norm of each reward",
      {
        "chosen_reward_grad_norm": "chosen",
        "rejected_reward_grad_norm": "rejected",
      },
      "norm / trained elements",
      log_y=True,
      missing="every.reward_norms was 0",
    ),
    Panel(
      "grad_norm",
      "Gradient norm of the loss",
      {"grad_norm": "loss"},
      "norm",
      log_y=True,
    ),
  ),
  "Ranking": (
    Panel(
      "accuracy",
      "Ranking accuracy",
      {"accuracy": "accuracy"},
      "share of pairs ranked rightly",
      level=0.5,
    ),
    Panel(
      "margin",
      "Margin",
      {"margin": "margin"},
      "S chosen - S rejected",
      level=0.0,
    ),
  ),
  "Language": (
    Panel(
      "reference_logp",
      "Log-prob of reference captions",
      {"reference_logp": "reference captions"},
      "mean log-prob per token",
      source="evaluations",
      missing="every.evaluate was 0, or no references were named",
    ),
    Panel(
      "text_logp",
      "Log-prob of held-out text",
      {"text_logp": "held-out text"},
      "mean log-prob per token",
      source="evaluations",
      missing="every.evaluate was 0, or language.texts named none",
    ),
    Panel(
      "repetition",
      "Repetition of greedy captions",
      {"repetition": "repeated 4-grams"},
      "share of 4-grams",
      source="evaluations",
      missing="every.evaluate or language.captions was 0",
    ),
    Panel(
      "distinct",
      "Variety of greedy captions",
      {"distinct_1": "distinct-1", "distinct_2": "distinct-2"},
      "different n-grams per n-gram",
      source="evaluations",
      missing="every.evaluate or language.captions was 0",
    ),
  ),
  "Training": (
    Panel("loss", "Loss", {"loss": "loss"}, "loss"),
    Panel(
      "pairs_per_s", "Speed", {"pairs_per_s": "pairs/s"}, "pairs per second"
    ),
  ),
}
