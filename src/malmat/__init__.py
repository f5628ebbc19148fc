"""malmat (말맛): teach language models Korean slang, and prove how well they learned.

The shared mechanics of the scripts in ``src/``. Each module holds one idea and
imports heavy packages (torch, transformers, the API SDKs) only inside the
functions that need them, so that every ``--help`` answers at once.
"""

import os

# Set before any Hugging Face package is imported: no usage pings from a training
# box, and no tokenizer threads that deadlock after a fork.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

__version__ = "0.1.0"
