"""What the command prints: tables and spinners on a terminal, plain lines elsewhere, JSON on demand."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imageflow_common.logs import printable

if TYPE_CHECKING:
    from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Output:
    """`as_json`: one JSON document on standard output and nothing else. What is said on the way, to people, goes to
    standard error. What others have named stays text: none of it reaches the terminal as a command."""

    as_json: bool = False

    def data(self, value: object) -> None:
        """The answer, for programs; nothing unless JSON was asked for."""
        if self.as_json:
            print(json.dumps(value, indent=2, ensure_ascii=False))

    def line(self, text: str = "") -> None:
        """A line of the answer, for people."""
        if not self.as_json:
            print(printable(text, but="\n"))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """A table, for people. Columns named in `right` are aligned there. Elsewhere than on a terminal: columns
        padded with spaces, no rulers, no colours, nothing cut off."""
        if self.as_json:
            return
        rows = [[printable(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            _print_rich(columns, rows, right)
        else:
            _print_plain(columns, rows, right)

    def note(self, text: str) -> None:
        """A remark on the way."""
        if not self.as_json:
            print(printable(text, but="\n"), file=sys.stderr)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """A spinner while the block runs; a plain line elsewhere than on a terminal."""
        if self.as_json or not sys.stderr.isatty():
            self.note(f"{text} …")
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            yield


@contextlib.contextmanager
def progress(out: Output, text: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error that each call of what it yields moves on by one; elsewhere than on a terminal a plain
    line."""
    if out.as_json or not sys.stderr.isatty():
        out.note(f"{text}: {total} …")
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)


def message_json(message: Message, *, zeros: bool = True) -> dict[str, Any]:
    """A message as the gateway writes it: lowerCamelCase, whole numbers without a point, and fields at their zero
    value written, unless `zeros` is false."""
    from google.protobuf.json_format import MessageToDict

    answer: dict[str, Any] = _plain(MessageToDict(message, always_print_fields_with_no_presence=zeros))
    return answer


def _plain(value: Any) -> Any:
    """A Struct knows no integers: 800 comes out of it as 800.0."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def milliseconds(value: float) -> str:
    return f"{value:.1f} ms"


def byte_size(count: int) -> str:
    """`512 B`, `1.5 kB`, `2.0 MB`."""
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # square brackets in a value are no markup
    Console().print(table)
