"""Published folders in and out, and what a run learned put on them."""
