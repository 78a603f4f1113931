"""The report as one HTML file: images inside, nothing fetched, no script."""

import base64
import html
from typing import NamedTuple

import numpy as np

from synpo_jax.reporting import opening, plots

SECTIONS = {
  "Rewards": "How likely the policy finds the chosen and the rejected captions"
  " of the training pairs. S is the geometric mean of a caption's token"
  " probabilities, exp of the mean log-prob: SynPO's reward.",
  "Gradients": "What pulls harder, the chosen captions or the rejected ones."
  " Each norm is that of the gradient of one mean reward alone, divided by the"
  " number of trained elements: the gradient of S, or of the summed log-prob"
  " for losses with a reference policy, so compare chosen with rejected, not"
  " one kind of loss with the other.",
  "Ranking": "A pair is ranked rightly when S of the chosen caption is above S"
  " of the rejected one. The margin is the mean difference of the two.",
  "Language": "Whether the model still speaks well: log-prob per token of"
  " captions and text it was not trained on, and the repetition and variety of"
  " its greedy captions for held-out videos.",
  "Importance": "Importance of a token: its log-prob before training with the"
  " video in view, minus its log-prob with every frame of the video blanked."
  " The tokens of reference captions are sorted into bins of equal count by"
  " that drop; a point is the mean log-prob of a bin, with its standard error."
  " Training helps where it matters when it lifts the right end of the line.",
  "Training": "The loss of every method has a scale of its own; compare its"
  " shape only.",
}
COLUMNS = (
  ("accuracy", "ranking accuracy"),
  ("margin", "margin"),
  ("chosen_logp", "chosen log-prob"),
  ("rejected_logp", "rejected log-prob"),
)
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--quiet:#59636e;
--line:#d9dee3}
@media(prefers-color-scheme:dark){:root{--paper:#14181f;--ink:#e6e9ee;
--quiet:#9aa4b1;--line:#333a44}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1.5rem 1rem 4rem;color:var(--ink);
background:var(--paper);font:16px/1.55 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .3rem}
p{max-width:44rem;margin:.3rem 0 1rem;color:var(--quiet)}
.grid{display:grid;gap:1.25rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,27rem),1fr))}
figure{margin:0}img{display:block;width:100%;max-width:38rem;height:auto}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem;
font-variant-numeric:tabular-nums}th,td{padding:.35rem .8rem .35rem 0;
text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--quiet)}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}
"""


class Figure(NamedTuple):
  """A figure and its PNG bytes by theme; none, and why, without data."""

  name: str
  title: str
  images: dict[str, bytes]
  missing: str


def page(
  runs: list[plots.Run], drawn: dict[str, list[Figure]], first: str = ""
) -> str:
  """The whole page; `first` is HTML that it opens with."""
  names = ", ".join(run.name for run in runs)
  if len(runs) > 3:
    names = f"{len(runs)} runs"
  body = [f"<h1>{html.escape(names)}</h1>", first, _summary(runs)]
  for section, words in SECTIONS.items():
    shown = [f for f in drawn[section] if f.images]
    body.append(f"<h2>{section}</h2><p>{html.escape(words)}</p>")
    body.append(f'<div class="grid">{"".join(map(_figure, shown))}</div>')
    for figure in drawn[section]:
      if not figure.images:
        note = f"Not recorded: {figure.title} ({figure.missing})."
        body.append(f"<p>{html.escape(note)}</p>")
  return (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f"<title>{html.escape(names)}</title><style>{STYLE}{opening.STYLE}</style></head>"
    f"<body>{''.join(body)}</body></html>\n"
  )


def _figure(figure: Figure) -> str:
  light, dark = (_data_uri(figure.images[t]) for t in ("light", "dark"))
  return (
    "<figure><picture>"
    f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    f'<img src="{light}" alt="{html.escape(figure.title)}">'
    "</picture></figure>"
  )


def _data_uri(png: bytes) -> str:
  return "data:image/png;base64," + base64.b64encode(png).decode()


def _summary(runs: list[plots.Run]) -> str:
  """First and last values of each run, averaged over a tenth of it."""
  heads = ["run", "loss", "updates", *(label for _, label in COLUMNS)]
  heads += ["pairs/s", "skipped"]
  rows = []
  for run in runs:
    steps = [row["step"] for row in run.metrics]
    cells = [run.name, run.method or "?", str(steps[-1])]
    cells += [_change(run.metrics, key) for key, _ in COLUMNS]
    cells.append(_number(np.median, run.metrics, "pairs_per_s"))
    cells.append(_number(np.max, run.metrics, "skipped"))
    rows.append(_row("td", cells))
  note = (
    "Arrows lead from the mean of the first tenth of the updates to that of"
    " the last tenth. In the figures a faint line is every update, the bold one"
    " its running mean."
  )
  return (
    f'<p>{note}</p><div class="wide"><table>{_row("th", heads)}'
    f"{''.join(rows)}</table></div>"
  )


def _row(tag: str, cells: list[str]) -> str:
  inner = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells)
  return f"<tr>{inner}</tr>"


def _change(rows: list[dict], key: str) -> str:
  _, values = plots.column(rows, key)
  if not len(values):
    return "-"
  tenth = max(1, len(values) // 10)
  first, last = values[:tenth].mean(), values[-tenth:].mean()
  return f"{first:.3f} → {last:.3f}"


def _number(pick, rows: list[dict], key: str) -> str:
  _, values = plots.column(rows, key)
  return f"{pick(values):.4g}" if len(values) else "-"
