"""What the tests of norms share is importable: `norms` lists the norms."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
