"""`python -m echonode`: the same as the `echonode` command."""

import sys

from echonode.app import main

if __name__ == "__main__":
    sys.exit(main())
