"""SynPO preference learning for video captioners, in JAX and Flax."""
