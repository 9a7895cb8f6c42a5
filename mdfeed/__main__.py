"""`python -m mdfeed`: the same door as the `mdfeed` command."""

from .cli import main

if __name__ == "__main__":
    main()
