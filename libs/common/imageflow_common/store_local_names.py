"""How a key is spelt as file names, so that a person finds `photos/cat.png` as `photos/cat.png`.

A key may be an object and a prefix at once, and a folder cannot have a file's name. So the names of files
and those of folders never meet:

- a folder without a dot keeps its name; any other gets `.dir` behind it (`v1.2` → `v1.2.dir`);
- a file with a dot keeps its name; one without (and one whose name would end in a suffix of ours, or be `.`
  or `..`) gets `.object` behind it (`a` → `a.object`);
- a segment longer than a file name can be is cut, each piece but the last a folder `….part`;
- where the file system takes `A` and `a` for the same, what folding would change is written as `%XX`.

Every spelling belongs to one key only; a file with another spelling is no object.
"""

from __future__ import annotations

from urllib.parse import unquote

from imageflow_common.errors import InvalidKey
from imageflow_common.store import ObjectKey, parse_key

FOLDER, OBJECT, PART = ".dir", ".object", ".part"
_PIECE_BYTES = 240  # a file name holds 255, and a suffix comes behind

Names = tuple[str, ...]


def spell(key: ObjectKey, *, fold_case: bool) -> Names:
    """The folders and, last, the file of `key`. No name is `.`, `..`, or longer than 255 bytes."""
    *folders, leaf = key.split("/")
    return spell_folders(folders, fold_case=fold_case) + _spell_leaf(leaf, fold_case)


def spell_folders(segments: list[str], *, fold_case: bool) -> Names:
    """The folders in which the objects below the prefix of these segments lie."""
    names: list[str] = []
    for segment in segments:
        names.extend(_spell_folder(segment, fold_case))
    return tuple(names)


def read_name(names: Names, *, folder: bool, fold_case: bool) -> str | None:
    """The segment that is spelt `names` (its `.part` folders first), or None for what we never write."""
    *parts, last = names
    suffix = FOLDER if folder else OBJECT
    raw = "".join(part.removesuffix(PART) for part in parts) + last.removesuffix(suffix)
    segment = unquote(raw) if fold_case else raw
    try:
        if parse_key(segment) != segment or "/" in segment:
            return None
    except InvalidKey:
        return None
    spelt = _spell_folder(segment, fold_case) if folder else _spell_leaf(segment, fold_case)
    return segment if spelt == names else None


def _spell_folder(segment: str, fold_case: bool) -> Names:
    *parts, last = _pieces(_escape(segment) if fold_case else segment)
    return (*(part + PART for part in parts), last + FOLDER if "." in last else last)


def _spell_leaf(segment: str, fold_case: bool) -> Names:
    *parts, last = _pieces(_escape(segment) if fold_case else segment)
    plain = "." in last and last not in (".", "..") and not last.endswith((FOLDER, OBJECT, PART))
    return (*(part + PART for part in parts), last if plain else last + OBJECT)


def _escape(segment: str) -> str:
    return "".join(_percent(character) if _folds(character) else character for character in segment)


def _folds(character: str) -> bool:
    return character == "%" or character.casefold() != character


def _percent(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode())


def _pieces(text: str) -> list[str]:
    if len(text) * 4 <= _PIECE_BYTES or len(text.encode()) <= _PIECE_BYTES:
        return [text]
    pieces = []
    rest = text.encode()
    while len(rest) > _PIECE_BYTES:
        piece = rest[:_PIECE_BYTES].decode(errors="ignore")
        pieces.append(piece)
        rest = rest[len(piece.encode()) :]
    return [*pieces, rest.decode()]
