"""`python -m imageflow_cli` is the `imageflow` command."""

from .main import main

if __name__ == "__main__":
    main()
