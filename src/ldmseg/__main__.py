"""`python -m ldmseg`, which `accelerate launch -m ldmseg train ..` needs."""

from ldmseg.cli import main
from ldmseg.cli.together import leave, mute_all_but_first

if __name__ == "__main__":
    mute_all_but_first()
    leave(main())
