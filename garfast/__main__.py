"""``python -m garfast``: the command line."""

from garfast.cli import main

main()
