"""A prompt to captions."""
