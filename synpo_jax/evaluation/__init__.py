"""Scores for captions, judges included, and the analyses of a run."""
