"""`python -m probclust`: the command line."""

from probclust.cli.main import main

if __name__ == "__main__":
    main()
