"""The synthetic world: clips whose truth is known, told and judged exactly."""
