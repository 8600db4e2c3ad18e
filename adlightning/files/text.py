"""Files of text from anyone: what their first bytes say they are, their encoding, and lines no longer than of use."""

from __future__ import annotations

import codecs
import gzip
import re
from pathlib import Path
from typing import IO

LONGEST_LINE = 2**24
"""Characters of a line; a kilobyte of .gz may be a line of a million empty fields."""

WESTERN = "cp1252"
"""Windows-1252, of which Latin-1's letters are a part."""

_NO_TEXT = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh91AY&SY": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PAR1\x15": "a Parquet file",
    b"ARROW1\0\0": "a Feather (Arrow) file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF-": "a PDF",
}
_MARKS = {  # UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_START = 4096  # bytes that are looked at to say what a file is
_CHUNK = 2**20
_FOREIGN = re.compile(rb"[\x80-\xff]{3}")  # words of other scripts; Western ones have one or two letters beyond ASCII


class Undecided(ValueError):
    """A file that may be read in several ways; the message names the option that says how.

    Args:
        message: what was found, and what to say.
        option: the name of the option.
        choices: values for it, the likeliest first.
    """

    def __init__(self, message: str, option: str, choices: tuple[str, ...]) -> None:
        super().__init__(message)
        self.option = option
        self.choices = choices


def is_gzip(path: Path) -> bool:
    """Whether a file's name says that it is compressed."""
    return path.suffix.lower() == ".gz"


def open_text(path: Path, encoding: str) -> IO[str]:
    """A file of text, also a compressed one, with its ends of lines as they are."""
    opened: IO[str] = (gzip.open if is_gzip(path) else open)(path, "rt", encoding=encoding, newline="")
    return opened


def require_text(path: Path) -> None:
    """Refuse what is no text, by how it begins. Raises ValueError."""
    start = _start(path)
    for magic, what in _NO_TEXT.items():
        if start.startswith(magic):
            remedy = "call it .gz" if "gzip" in what and not is_gzip(path) else "save it as CSV in UTF-8"
            raise ValueError(f"{path} is no text but {what}: {remedy}")
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        raise ValueError(f"{path} is no table but a page of HTML or XML, perhaps a download that failed")


def find_encoding(path: Path) -> str:
    """The encoding of a text: by its byte order mark or zero bytes, UTF-8, or :data:`WESTERN`; all of it is read.

    Raises:
        Undecided: it is none of these, or text of another script in 8 bits.
        ValueError: it is no text, or has a line of more than :data:`LONGEST_LINE` characters.
    """
    start = _start(path)
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if marked is None and b"\0" in start:
        zeros = {"utf-16-be": start[::2].count(0), "utf-16-le": start[1::2].count(0)}
        marked = max(zeros, key=lambda name: zeros[name])
        if zeros[marked] < len(start) / 8 or min(zeros.values()) > zeros[marked] / 4:
            raise ValueError(f"{path} holds zero bytes: it is no text")
    if marked is not None:
        return required_encoding(path, marked)
    try:
        require_lines(path, "utf-8")
    except UnicodeDecodeError as error:
        position = error.start
        if not _is_western(path):
            raise Undecided(
                f"{path} is not UTF-8 (byte {error.object[0]:#04x} at {position}): say encoding, such as "
                f"encoding=cp1252 (Western Europe), cp1250 (Central Europe), cp1251 (Cyrillic), gb18030, shift_jis",
                "encoding",
                (WESTERN,),
            ) from error
        require_lines(path, WESTERN)
        return WESTERN
    return "utf-8"


def required_encoding(path: Path, encoding: str) -> str:
    """An encoding, with the byte order mark that the file has.

    Raises:
        ValueError: there is no such encoding, the file is in another one, or it has a line that is too long.
    """
    try:
        known = codecs.lookup(encoding)
        is_text = getattr(known, "_is_text_encoding", True)
    except (LookupError, ValueError):
        is_text = False
    if not is_text:
        raise ValueError(f"encoding: there is no encoding {encoding!r}; known are utf-8, utf-16, cp1252, latin-1, ...")
    start = _start(path)
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), encoding)
    encoding = marked if marked.startswith(known.name[:6]) else encoding  # utf-16-le with a mark is utf-16
    try:
        require_lines(path, encoding)
    except UnicodeDecodeError as error:
        found = f"byte {error.object[0]:#04x} at {error.start}"
        raise ValueError(f"{path} is not in the encoding {encoding} ({found})") from error
    except UnicodeError as error:
        raise ValueError(f"{path} is not in the encoding {encoding}: {error}") from error
    return encoding


def require_lines(path: Path, encoding: str) -> None:
    """Decode all of a file, and refuse a line that is too long.

    Raises:
        UnicodeDecodeError: another encoding; `start` counts from the start of the file, `object` is the byte there.
        ValueError: a line of more than :data:`LONGEST_LINE` characters.
    """
    decoder, length, read = codecs.getincrementaldecoder(encoding)(), 0, 0
    with (gzip.open if is_gzip(path) else open)(path, "rb") as file:
        while True:
            chunk = file.read(_CHUNK)
            kept = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                byte = error.object[error.start : error.start + 1]
                start = read - kept + error.start
                raise UnicodeDecodeError(error.encoding, byte, start, start + 1, error.reason) from None
            read += len(chunk)
            first = min((i for i in map(text.find, "\n\r") if i >= 0), default=len(text))
            if length + first > LONGEST_LINE:
                raise ValueError(f"{path} has a line of more than {LONGEST_LINE >> 20} MiB: refused")
            last = max(map(text.rfind, "\n\r"))
            length = length + len(text) if last < 0 else len(text) - 1 - last
            if not chunk:
                return


def count_lines(path: Path) -> int:
    """Lines of a file at most: bytes that end one in most encodings, and one."""
    count = 1
    with (gzip.open if is_gzip(path) else open)(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            count += chunk.count(b"\n") or chunk.count(b"\r")
    return count


def _start(path: Path) -> bytes:
    with (gzip.open if is_gzip(path) else open)(path, "rb") as file:
        return bytes(file.read(_START))


def _is_western(path: Path) -> bool:
    """Whether all bytes are letters of Windows-1252, and no more than two beyond ASCII stand together."""
    undefined, before = re.compile(rb"[\x81\x8d\x8f\x90\x9d\0]"), b""
    with (gzip.open if is_gzip(path) else open)(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            if undefined.search(chunk) or _FOREIGN.search(before + chunk):
                return False
            before = chunk[-2:]
    return True
