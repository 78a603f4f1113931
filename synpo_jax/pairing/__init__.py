"""Videos to judged preference pairs."""
