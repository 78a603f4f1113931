"""The losses again in float64 NumPy, sharing no code with the library.

w and z are the token log-probs of a pair's chosen and rejected caption, v and
u their summed log-probs under the reference, k what the batch shares. The
default coefficients are the papers', typed in from the papers; cDPO's epsilon,
which its note leaves open, is that of robust DPO.
"""

import numpy as np


def s(x):
  return np.exp(ls(x))


def ls(x):
  return -np.logaddexp(0, -x)


def synpo(w, z, v, u, k, alpha=30, beta=0.2):
  gap = np.prod(np.exp(w / len(w))) - np.prod(np.exp(z / len(z)))
  return -1 / (1 + np.exp(-alpha * gap)) - beta * np.mean(np.exp(w))


def synpo_log(w, z, v, u, k, alpha=30, beta=0.2):
  gap = np.prod(np.exp(w / len(w))) - np.prod(np.exp(z / len(z)))
  return np.logaddexp(0, -alpha * gap) - beta * np.mean(np.exp(w))


def dpo(w, z, v, u, k, beta=0.1):
  return np.logaddexp(0, -beta * (w.sum() - v - z.sum() + u))


def cdpo(w, z, v, u, k, beta=0.1, epsilon=0.1):
  d = beta * ((w.sum() - z.sum()) - (v - u))
  return -(1 - epsilon) * ls(d) - epsilon * ls(-d)


def robust_dpo(w, z, v, u, k, beta=0.1, epsilon=0.1):
  d = beta * ((w.sum() - z.sum()) - (v - u))
  return (epsilon * ls(-d) - (1 - epsilon) * ls(d)) / (1 - 2 * epsilon)


def ipo(w, z, v, u, k, beta=0.1):
  return (w.mean() - v / len(w) - z.mean() + u / len(z) - 0.5 / beta) ** 2


def sigmoid_norm(w, z, v, u, k, beta=5.0):
  return np.logaddexp(
    0, beta * ((z.sum() - u) / len(z) - (w.sum() - v) / len(w))
  )


def dpo_shift(w, z, v, u, k, beta=0.01, lam=0.7):
  policy, reference = w.sum() - lam * z.sum(), v - lam * u
  return np.logaddexp(0, -beta * (policy - reference))


def hypo(w, z, v, u, k, beta=0.1):
  return -ls(beta * (w.sum() - z.sum() - max(0.0, v - u)))


def hinge(w, z, v, u, k, beta=0.05):
  return max(0.0, 1 - beta * ((w.sum() - v) - (z.sum() - u)))


def exo(w, z, v, u, k, beta=0.1, epsilon=1e-3):
  d = beta * ((w.sum() - v) - (z.sum() - u))
  policy, label = np.array([d, 0]), np.array([1 - epsilon, epsilon])
  log_policy = policy - np.logaddexp(d, 0)
  return np.sum(np.exp(log_policy) * (log_policy - np.log(label)))


def nca(w, z, v, u, k, beta=0.01):
  x, y = beta * (w.sum() - v), beta * (z.sum() - u)
  return -ls(x) - ls(-x) / 2 - ls(-y) / 2


def bco(w, z, v, u, k, beta=0.01):
  shift = beta * (k["r_w"] + k["r_l"]) / 2
  return -ls(beta * (w.sum() - v) - shift) - ls(shift - beta * (z.sum() - u))


def sppo(w, z, v, u, k, beta=0.001):
  return (w.sum() - v - 0.5 / beta) ** 2 + (z.sum() - u + 0.5 / beta) ** 2


def apo_zero(w, z, v, u, k, beta=0.1):
  return 1 - s(beta * (w.sum() - v)) + s(beta * (z.sum() - u))


def apo_down(w, z, v, u, k, beta=0.1):
  x, y = beta * (w.sum() - v), beta * (z.sum() - u)
  return s(x) + 1 - s(x - y)


def discopop(w, z, v, u, k, beta=0.05, tau=0.05):
  x = beta * ((w.sum() - v) - (z.sum() - u))
  return (1 - s(x / tau)) * -ls(x) + s(x / tau) * np.exp(-x)


def aot(w, z, v, u, k, beta=0.01):
  return -ls(beta * (w.sum() - z.sum() - k["partner"]))


def rpo(w, z, v, u, k, beta=0.1, alpha=1.0, nll="mean"):
  said = w.mean() if nll == "mean" else w.sum()
  return -ls(beta * ((w.sum() - v) - (z.sum() - u))) - alpha * said


def cpo(w, z, v, u, k, beta=0.1, alpha=1.0, nll="sum"):
  said = w.sum() if nll == "sum" else w.mean()
  return -ls(beta * (w.sum() - z.sum())) - alpha * said


def simpo(w, z, v, u, k, beta=2.0, gamma=0.5):
  return -ls(beta / len(w) * w.sum() - beta / len(z) * z.sum() - gamma)


def alphapo(w, z, v, u, k, alpha=0.25, beta=2.5, gamma=0.1):
  reward = [(1 - np.exp(x.mean()) ** -alpha) / alpha for x in (w, z)]
  return np.logaddexp(0, gamma - beta * (reward[0] - reward[1]))


def orpo(w, z, v, u, k, lam=0.1, nll="mean"):
  odds = [np.exp(x.mean()) / -np.expm1(x.mean()) for x in (w, z)]
  said = w.mean() if nll == "mean" else w.sum()
  return -said - lam * ls(np.log(odds[0] / odds[1]))


def slic_hf(w, z, v, u, k, delta=1.0, lam=0.1, nll="sum"):
  said = w.sum() if nll == "sum" else w.mean()
  return max(0.0, delta - w.sum() + z.sum()) - lam * said


def rrhf(w, z, v, u, k, lam=1.0, nll="sum"):
  said = w.sum() if nll == "sum" else w.mean()
  return max(0.0, z.mean() - w.mean()) - lam * said


def r_dpo(w, z, v, u, k, beta=0.1, alpha=0.01):
  score = [beta * (w.sum() - v), beta * (z.sum() - u)]
  return -ls(score[0] + alpha * len(w) - score[1] - alpha * len(z))


def kto(w, z, v, u, k, beta=0.1, desirable=1.0, undesirable=1.0):
  gain = 1 - s(beta * (w.sum() - v - max(0, k["r_l"])))
  loss = 1 - s(beta * (max(0, k["r_w"]) - z.sum() + u))
  return desirable * gain + undesirable * loss


def sft(w, z, v, u, k):
  return -np.mean(w)


ORACLE = dict(
  synpo=synpo,
  synpo_log=synpo_log,
  dpo=dpo,
  cdpo=cdpo,
  robust_dpo=robust_dpo,
  ipo=ipo,
  sigmoid_norm=sigmoid_norm,
  dpo_shift=dpo_shift,
  hypo=hypo,
  hinge=hinge,
  exo=exo,
  nca=nca,
  bco=bco,
  sppo=sppo,
  apo_zero=apo_zero,
  apo_down=apo_down,
  discopop=discopop,
  aot=aot,
  rpo=rpo,
  cpo=cpo,
  simpo=simpo,
  alphapo=alphapo,
  orpo=orpo,
  slic_hf=slic_hf,
  rrhf=rrhf,
  r_dpo=r_dpo,
  kto=kto,
  sft=sft,
)


def shared(rows):
  """What a batch of (w, z, v, u) shares, one dict per row."""
  r_w = np.mean([w.sum() - v for w, _, v, _ in rows])
  r_l = np.mean([z.sum() - u for _, z, _, u in rows])
  margins = [w.sum() - z.sum() for w, z, _, _ in rows]
  partners = sorted(v - u for _, _, v, u in rows)
  ranks = [sorted(margins).index(margin) for margin in margins]
  return [dict(r_w=r_w, r_l=r_l, partner=partners[rank]) for rank in ranks]


def expected(name, rows, length, **coefficients):
  """Losses [B] and, by central differences, gradients [B, 2, length]."""
  f, values, grads = ORACLE[name], [], np.zeros((len(rows), 2, length))
  for b, (row, k) in enumerate(zip(rows, shared(rows), strict=True)):
    values.append(f(*row, k, **coefficients))
    spots = [(0, t) for t in range(len(row[0]))]
    spots += [(1, t) for t in range(len(row[1]))]
    for c, t in spots:
      x = abs(row[c][t])
      h = min(1e-5 * max(1.0, x), 1e-3 * x)  # log-probs stay below 0
      grads[b, c, t] = difference(f, row, k, coefficients, c, t, h)
  return np.array(values), grads


def difference(f, row, k, coefficients, c, t, h):
  """Central difference of f in token t of caption c."""
  ends = []
  for step in (h, -h):
    moved = [row[0].copy(), row[1].copy(), row[2], row[3]]
    moved[c][t] += step
    ends.append(f(*moved, k, **coefficients))
  return (ends[0] - ends[1]) / (2 * h)


# Lists: xs are the token log-probs of a row's captions, us their summed ones
# under the reference, scores the judge's.


def plackett_luce(xs, us, scores, beta=0.1):
  worth = [np.exp(beta * (x.sum() - u)) for x, u in zip(xs, us, strict=True)]
  loss = 0.0
  for i, score in enumerate(scores):
    left = [w for w, other in zip(worth, scores, strict=True) if other < score]
    loss -= np.log(worth[i] / (worth[i] + sum(left)))
  return loss


def synpo_list(xs, us, scores, alpha=30.0, beta=0.2):
  S = [np.prod(np.exp(x / len(x))) for x in xs]
  ranked, total = 0.0, 0.0
  for i, j in ordered(scores):
    ranked += (scores[i] - scores[j]) * s(alpha * (S[i] - S[j]))
    total += scores[i] - scores[j]
  best = [
    np.exp(x).mean()
    for x, y in zip(xs, scores, strict=True)
    if y == max(scores)
  ]
  return (-ranked / total if total else 0.0) - beta * np.mean(best)


def ordered(scores, gap=0.0):
  """(better, worse) of a row, more than 0 and at least `gap` apart."""
  every = [(i, j) for i in range(len(scores)) for j in range(len(scores))]
  return [
    (i, j)
    for i, j in every
    if scores[i] > scores[j] and scores[i] - scores[j] >= gap
  ]


def over_pairs(name, rows, gap, **coefficients):
  """Functions xs -> the mean loss of each row's pairs, for rows of lists."""
  pairs = [
    [(xs[i], xs[j], us[i], us[j]) for i, j in ordered(scores, gap)]
    for xs, us, scores in rows
  ]
  common = iter(shared([pair for row in pairs for pair in row]))
  f, made = ORACLE[name], []
  for (_, us, scores), row in zip(rows, pairs, strict=True):
    ks, ends = [next(common) for _ in row], ordered(scores, gap)

    def of_row(xs, us=us, ends=ends, ks=ks):
      values = [
        f(xs[i], xs[j], us[i], us[j], k, **coefficients)
        for (i, j), k in zip(ends, ks, strict=True)
      ]
      return np.mean(values) if values else 0.0

    made.append(of_row)
  return made


def slopes(f, xs):
  """Gradient of f(xs) in each token of each caption, by central differences."""
  grads = [np.zeros(len(x)) for x in xs]
  for c, t in ((c, t) for c, x in enumerate(xs) for t in range(len(x))):
    h = min(1e-5 * max(1.0, abs(xs[c][t])), 1e-3 * abs(xs[c][t]))
    ends = []
    for step in (h, -h):
      moved = [x.copy() for x in xs]
      moved[c][t] += step
      ends.append(f(moved))
    grads[c][t] = (ends[0] - ends[1]) / (2 * h)
  return grads
