"""``python -m tpcalc``."""

from tpcalc.cli import main

if __name__ == "__main__":
    main()
