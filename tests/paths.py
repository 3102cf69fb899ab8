"""Where things are, for tests at any depth of the tree."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist"  # 10,000 real images, where they lie beside the checkout
