"""Zip archives of which every reader sees the same members: torch's, numpy's and Python's find them in different ways.

An archive that none of the three writes is refused: one can be made to show each reader another file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED

MOST_MEMBERS = 200_000
"""Of an archive: each takes memory before anything is read."""

_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_ENTRY, _LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
_DESCRIPTORS = (struct.Struct("<4s3L"), struct.Struct("<4sL2Q"))
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # the number stands in the record of zip64
_ZIP64, _UNICODE_NAME = 0x0001, 0x7075
_DESCRIBED_BEHIND, _UTF8 = 0x0008, 0x0800  # bits of the flags, and all of them that may be set
_OPTIONS = 0x0006  # of deflate: how hard it tried


@dataclass(frozen=True)
class Member:
    """One file of an archive: its name, whether it is compressed, its bytes, and those that it takes in the archive."""

    name: str
    compressed: bool
    size: int
    packed: int


@dataclass(frozen=True)
class _Entry:
    """What the directory says of a member."""

    name: bytes
    flags: int
    method: int
    checksum: int
    packed: int
    size: int
    start: int


def plain_members(file: BinaryIO) -> tuple[Member, ...]:
    """The members of a zip archive that has one directory, at its end, and in front of it the members and nothing else.

    Args:
        file: open for reading, seekable; where it stands does not matter, before and after.

    Raises:
        ValueError: no zip archive, or one that readers could take for different ones: with something before, between or
            behind its members, with two of one name, or whose headers contradict each other.
    """
    try:
        count, start, end = _directory(file)
        entries = _entries(_read(file, start, end - start), count)
        reached = 0
        for entry in sorted(entries, key=lambda entry: entry.start):
            if entry.start != reached:
                raise ValueError("its members overlap, or something lies between them")
            reached = _end_of(file, entry, start)
        if reached != start:
            raise ValueError("something lies between its members and its directory")
        names = [entry.name.decode("utf-8" if entry.flags & _UTF8 else "ascii") for entry in entries]
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged: {error}") from None
    if len(set(names)) < len(names):
        raise ValueError("two of its members have one name")
    return tuple(
        Member(name, entry.method != ZIP_STORED, entry.size, entry.packed)
        for name, entry in zip(names, entries, strict=True)
    )


def require_stored(file: BinaryIO) -> tuple[Member, ...]:
    """As :func:`plain_members`, of an archive that is never written compressed. Raises ValueError for one that is."""
    members = plain_members(file)
    if any(member.compressed for member in members):
        raise ValueError("it holds compressed parts, which are never written so")
    return members


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    if start < 0:
        raise ValueError("it is no zip archive, or it is truncated")
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it is truncated")
    return data


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Number of entries of the directory, and where it starts and ends."""
    whole = file.seek(0, os.SEEK_END)
    end = whole - _END.size
    sign, disk, disk_of, here, count, size, start, comment = _END.unpack(_read(file, end, _END.size))
    if sign != b"PK\5\6" or comment:
        raise ValueError("it is no zip archive, or something lies behind its end")
    numbers = (disk, disk_of, here, count, size, start)
    located = _read(file, max(0, end - _LOCATOR.size), min(end, _LOCATOR.size))
    if located.startswith(b"PK\6\7"):
        _, disk64, end64, disks = _LOCATOR.unpack(located)
        end = end - _LOCATOR.size - _END64.size
        record = _END64.unpack(_read(file, end, _END64.size))
        if end64 != end or disk64 or disks != 1 or record[:2] != (b"PK\6\6", _END64.size - 12):
            raise ValueError("its end record of zip64 is not where it should be")
        full = (_FULL16,) * 4 + (_FULL32,) * 2
        if any(short not in (long, most) for short, long, most in zip(numbers, record[4:], full, strict=True)):
            raise ValueError("its two end records contradict each other")
        disk, disk_of, here, count, size, start = record[4:]
    if disk or disk_of or here != count or start + size != end:
        raise ValueError("its directory is not where its end record says")
    if count > MOST_MEMBERS:
        raise ValueError(f"it has more than {MOST_MEMBERS} members")
    return count, start, end


def _entries(directory: bytes, count: int) -> list[_Entry]:
    """The directory's entries, which fill it."""
    entries, position = [], 0
    for _ in range(count):
        fields = _ENTRY.unpack_from(directory, position)
        sign, _, _, flags, method, _, _, checksum, packed, size, n_name, n_extra, n_comment, disk, _, _, start = fields
        position += _ENTRY.size
        name, extra = directory[position : position + n_name], directory[position + n_name :][:n_extra]
        position += n_name + n_extra + n_comment
        if sign != b"PK\1\2" or position > len(directory) or disk:
            raise ValueError("its directory is damaged")
        if method not in (ZIP_STORED, ZIP_DEFLATED) or flags & ~(_DESCRIBED_BEHIND | _UTF8 | _OPTIONS):
            raise ValueError("a member is encrypted, or packed in a way that is never written")
        size, packed, start = _long(extra, (size, packed, start))
        if not name or b"\0" in name:
            raise ValueError("a member has no name, or a name with an end in it")
        if method == ZIP_STORED and size != packed:
            raise ValueError("a member that is not compressed claims to be of two sizes")
        entries.append(_Entry(name, flags, method, checksum, packed, size, start))
    if position != len(directory):
        raise ValueError("its directory has another number of entries than its end record says")
    return entries


def _long(extra: bytes, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers, those that are full in 32 bits from the extra field of zip64, in which they must fill its own place."""
    found, position = [], 0
    while position < len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        position += 4 + size
        if position > len(extra) or kind == _UNICODE_NAME:
            raise ValueError("a member's extra fields are damaged, or give it another name")
        if kind == _ZIP64:
            found.append(extra[position - size : position])
    full = sum(number == _FULL32 for number in numbers)
    if len(found) > 1 or (full and not found) or (found and full and len(found[0]) != 8 * full):
        raise ValueError("a member's long sizes contradict its short ones")
    longs = iter(struct.unpack(f"<{full}Q", found[0]) if full else ())
    return tuple(next(longs) if number == _FULL32 else number for number in numbers)


def _end_of(file: BinaryIO, entry: _Entry, most: int) -> int:
    """Where a member ends, with what describes it behind it; ValueError unless its own header says what its entry does.

    Args:
        file: the archive.
        entry: of the directory.
        most: where the directory starts.
    """
    fields = _LOCAL.unpack(_read(file, entry.start, _LOCAL.size))
    sign, _, flags, method, _, _, checksum, packed, size, n_name, n_extra = fields
    name, extra = _read(file, entry.start + _LOCAL.size, n_name), _read(file, file.tell(), n_extra)
    own = (sign, name, flags, method)
    if own != (b"PK\3\4", entry.name, entry.flags, entry.method):
        raise ValueError("a member's header contradicts the directory")
    end = file.tell() + entry.packed
    if end > most:
        raise ValueError("its members are larger than the whole")
    if not flags & _DESCRIBED_BEHIND:
        if (checksum, *_long(extra, (size, packed))) != (entry.checksum, entry.size, entry.packed):
            raise ValueError("a member's header contradicts the directory")
        return end
    for form in _DESCRIPTORS:
        behind = _read(file, end, min(form.size, most - end))
        if len(behind) == form.size and form.unpack(behind) == (b"PK\7\10", entry.checksum, entry.packed, entry.size):
            return end + form.size
    raise ValueError("what stands behind a member contradicts the directory")
