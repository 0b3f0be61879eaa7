"""`python -m xdnawatch`."""

from xdnawatch.cli import main

if __name__ == "__main__":
    main()
