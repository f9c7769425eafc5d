"""`python -m imageflow_detect`."""

from .app import main

main()
