"""What the commands are told: a recipe a file, each with `get_config()`."""
