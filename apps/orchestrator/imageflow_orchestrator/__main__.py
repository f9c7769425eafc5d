"""`python -m imageflow_orchestrator`."""

from .app import main

main()
