"""`python -m imageflow_resize`."""

from .app import main

main()
