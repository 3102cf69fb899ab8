"""Shared set-up: the tests' own folder is importable (float64 references live beside the tests)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
