"""The command `stead`. Loads the rest only once an interrupt can end it in order."""

import sys

INTERRUPTED = 130


def main() -> int:
    """Runs one command line; its exit code."""
    try:
        from services.cli.edges.commands.line import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
