"""SynPO preference learning for video captioners, in JAX and Flax."""

__version__ = "0.2.0"
