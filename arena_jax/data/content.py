"""The bytes of a file, whatever it is packed in, and its text, whatever it is written in."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import Path

from arena_jax.config.errors import ArenaError
from arena_jax.config.git_lfs import refuse_pointer

PACKED = (".gz", ".bz2", ".xz", ".zst")
GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
NOT_READ = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the sheet as CSV",
    b"%PDF": "a PDF: extract its text first",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
}
BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def ending_of(path: Path) -> str:
    """A file's ending in small letters, without that of what it is packed in.

    Example:
        >>> ending_of(Path("train.csv.gz")), ending_of(Path("eng.testa"))
        ('.csv', '.testa')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked where its first bytes say that it is packed (gzip, bzip2, xz, zstd).

    Args:
        path: of the file.

    Returns:
        Its content, never empty.

    Raises:
        ArenaError: it cannot be read, is empty, damaged, a Git LFS pointer, or an archive.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArenaError(f"cannot read {path}: {error.strerror or error}") from None
    refuse_pointer(path, content)
    try:
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        elif content.startswith(BZIP2):
            content = bz2.decompress(content)
        elif content.startswith(XZ):
            content = lzma.decompress(content)
        elif content.startswith(ZSTD):
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
                content = stream.read()
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise ArenaError(f"{path} cannot be unpacked ({error}); it is damaged or cut off: fetch it again") from None
    refuse_pointer(path, content)
    for start, what in NOT_READ.items():
        if content.startswith(start):
            raise ArenaError(f"{path} is {what}")
    if not content.strip():
        raise ArenaError(f"{path} is empty; give a file with examples")
    return content


def read_text(path: Path) -> str:
    """Read a text file: UTF-8, with or without a byte order mark, or UTF-16 with one; line ends become "\\n".

    Args:
        path: of the file, packed or not.

    Returns:
        Its text.

    Raises:
        ArenaError: as `read_bytes`, or it is binary or of another encoding; with line and byte.
    """
    content = read_bytes(path)
    encoding = BYTE_ORDER_MARKS.get(content[:2], "utf-8-sig")
    zero = content.find(b"\0") if encoding == "utf-8-sig" else -1
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start + (len(content) - len(error.object))
        if zero >= 0 or encoding != "utf-8-sig":
            raise ArenaError(f"{path} is binary or damaged UTF-16; give a UTF-8 text file") from None
        line = content.count(b"\n", 0, start) + 1
        raise ArenaError(
            f"{path} is not UTF-8: byte {start} in line {line} is 0x{content[start]:02x}; save the file as UTF-8"
        ) from None
    if zero >= 0:
        line = content.count(b"\n", 0, zero) + 1
        raise ArenaError(f"{path} is binary: byte {zero} in line {line} is zero; give a UTF-8 text file")
    return text.replace("\r\n", "\n")
