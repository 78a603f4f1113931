"""Processes that tests start find no PyTorch, as on a user's machine.

It is installed for the tests' oracles alone, and takes seconds to import.
"""

import os
import sys

os.environ["USE_TORCH"] = "0"  # Transformers would look for its version
sys.modules["torch"] = None  # `import torch` raises ModuleNotFoundError
