"""`python -m pocketforge`, and the command `pocketforge`."""

import sys

from pocketforge.folders import leave_working_folder
from pocketforge.streams import guarded, open_standard


def run() -> None:
    """Console script. What the command itself needs is imported once the working folder is out of the way."""
    open_standard()
    leave_working_folder()
    try:
        from pocketforge.cli.main import main
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # an installation that is not whole
        sys.exit(_broken(error))
    sys.exit(main())


def _broken(error: Exception) -> int:
    from pocketforge import crash
    from pocketforge.errors import EXIT_STAGE

    with guarded():
        line, code = crash.tell(error, sys.argv)
        if isinstance(error, ImportError):
            line, code = f"cannot start: {error}; install Pocketforge again\n  {line}", EXIT_STAGE
        sys.stderr.write(f"error: {line}\n")
    return code


if __name__ == "__main__":
    run()
