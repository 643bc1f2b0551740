"""`python -m ldmseg`, which `accelerate launch -m ldmseg train ..` needs."""

import sys

from ldmseg.cli import main
from ldmseg.cli.together import exit_at_once, mute_all_but_main

if __name__ == "__main__":
    mute_all_but_main()
    code = main()
    if code:
        exit_at_once(code)
    sys.exit(code)
