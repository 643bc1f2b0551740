"""`python -m ldmseg`, which `accelerate launch -m ldmseg train ..` needs."""

import sys

from ldmseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
