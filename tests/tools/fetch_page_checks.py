"""Fetches what the report's page is looked at with: axe-core and playwright-core, of npm. Prints the folder.

    python tests/tools/fetch_page_checks.py [--where]

What package-lock.json beside look.mjs names, held against its hashes. Chromium and Node.js are the machine's own
(apt_packages.py). With --where nothing is fetched: that is where they would be.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pipeline"))

from pocketforge.devices.web import WebEnvironment
from pocketforge.errors import PocketforgeError

CHECKS = WebEnvironment("page-checks", Path(__file__).resolve().parent / "page")


def main() -> int:
    if "--where" not in sys.argv[1:]:
        try:
            CHECKS.setup()
        except PocketforgeError as error:
            print(f"{error.message}; {error.hint}", file=sys.stderr)
            return 1
    print(CHECKS.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
