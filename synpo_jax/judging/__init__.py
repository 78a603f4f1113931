"""A language model asked for judgements."""
