"""The curves of runs, for people."""
