"""`python -m pocketforge`, and the command `pocketforge`."""

import sys

from pocketforge.folders import leave_working_folder


def run() -> None:
    """Console script. What the command itself needs is imported once the working folder is out of the way."""
    leave_working_folder()
    from pocketforge.cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    run()
