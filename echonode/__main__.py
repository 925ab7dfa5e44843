"""`python -m echonode` runs the `echonode` command."""

import sys

from echonode.app import main

if __name__ == "__main__":
    sys.exit(main())
