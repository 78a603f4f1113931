"""Captions and answers scored on benchmarks, with a judge or without."""
