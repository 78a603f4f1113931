"""Pairs and videos to batches of arrays; no JAX."""
