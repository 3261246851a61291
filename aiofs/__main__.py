"""`python -m aiofs`: the command."""

import sys

from aiofs import cli

if __name__ == "__main__":
    sys.exit(cli.main())
