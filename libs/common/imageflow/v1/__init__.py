"""Generated from protos/imageflow/v1 by `make protos`."""
