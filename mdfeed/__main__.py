"""`python -m mdfeed`: the same door as the `mdfeed` command."""

from mdfeed.cli import main

if __name__ == "__main__":
    main()
