"""Pages of lists."""

from __future__ import annotations

from imageflow_common.errors import InvalidArgument, Violation

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1_000


def page_size(asked: int) -> int:
    """Raises InvalidArgument past the limit; 0 is the default."""
    if asked > MAX_PAGE_SIZE:
        raise InvalidArgument("a page is too large", violations=[Violation("pageSize", f"at most {MAX_PAGE_SIZE}")])
    return asked or DEFAULT_PAGE_SIZE
