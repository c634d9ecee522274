"""`python -m pocketforge` is `pocketforge`."""

from pocketforge.cli.main import run

if __name__ == "__main__":
    run()
