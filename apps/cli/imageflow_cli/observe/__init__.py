"""Metrics, traces and logs of a running system: the servers that keep them, and what is asked of them."""
