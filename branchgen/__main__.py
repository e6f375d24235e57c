"""`python -m branchgen` is the command `branchgen`."""

import sys

from branchgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
