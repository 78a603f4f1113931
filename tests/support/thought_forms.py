"""What models write before their reply, in every form that is met."""

# A thought in every form we know of, all of which argue for another score.
WRONG = 'maybe {"pred": "no", "score": 1}, or score: 1.\nHmm.'
MARKED = [
  *(
    f"<{name}>{WRONG}</{name}>"
    for name in (
      "think",
      "thinking",
      "THINK",
      "thought",
      "thoughts",
      "reasoning",
      "reflection",
      "analysis",
      "scratchpad",
      "inner_monologue",
      "seed:think",
    )
  ),
  f'<think budget="9">{WRONG}</think >'.replace(" >", ">"),
  f"<think>{WRONG}<think>{WRONG}</think>{WRONG}</think>",
  f"{WRONG}</think>",
  f"{WRONG}</thinking>\n",
  f"{WRONG}[/THINK]",
  f"[THINK]{WRONG}[/THINK]",
  f"◁think▷{WRONG}◁/think▷",
  f"{WRONG}◁/think▷",
  f"<|think|>{WRONG}<|/think|>",
  f"<|begin_of_thought|>{WRONG}<|end_of_thought|>",
  f"<|START_THINKING|>{WRONG}<|END_THINKING|><|START_RESPONSE|>",
  f"<unused94>thought\n{WRONG}<unused95>",
  f"<|inner_prefix|>{WRONG}<|inner_suffix|>",
  f'<details type="reasoning"><summary>x</summary>{WRONG}</details>',
  f"&lt;think&gt;{WRONG}&lt;/think&gt;",
  f"<|channel|>analysis<|message|>{WRONG}<|end|>"
  "<|start|>assistant<|channel|>final<|message|>",
  f"<|channel|>analysis<|message|>{WRONG}"
  "<|channel|>final <|constrain|>json<|message|>",
  f"<|channel|>commentary<|message|>{WRONG}<|end|><|channel|>final<|message|>",
  f"<|channel>thought\n{WRONG}<channel|>",
  f"analysisWe weigh: {WRONG}assistantfinal",
  f"Here is my thought process:\n{WRONG}\nHere is my response:\n",
  f"Thinking...\n{WRONG}\n...done thinking.\n",
]
