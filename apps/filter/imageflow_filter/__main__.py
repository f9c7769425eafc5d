"""`python -m imageflow_filter`."""

from .app import main

main()
