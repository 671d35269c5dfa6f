"""``tpcalc`` and ``python -m tpcalc``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is imported is 130 in silence, as later on."""
    try:
        from tpcalc.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
