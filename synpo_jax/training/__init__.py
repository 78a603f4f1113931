"""A config and its data to weights that learned."""
