"""The study behind `make claims`: its material, one cell of it, its table."""
