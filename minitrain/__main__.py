"""`python -m minitrain`: the command line where the `minitrain` command is not on the path."""

import sys

from minitrain.cli import main

if __name__ == "__main__":
    sys.exit(main())
