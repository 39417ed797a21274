"""The text of a file of any size, a block at a time."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import itertools
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from arena_jax.config.errors import ArenaError
from arena_jax.config.git_lfs import refuse_pointer
from arena_jax.data.content import BYTE_ORDER_MARKS, BZIP2, GZIP, NOT_READ, XZ, ZSTD

BLOCK = 4 * 2**20  # bytes read at a time
LONGEST_LINE = 64 * 2**20  # bytes; JSON of one record


@contextlib.contextmanager
def open_unpacked(path: Path) -> Iterator[Any]:
    """Open a file for reading its bytes, unpacked on the way as its first bytes say.

    Raises:
        ArenaError: it cannot be read, is empty, a Git LFS pointer, or an archive.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ArenaError(f"cannot read {path}: {error.strerror or error}") from None
    with file:
        start = file.read(512)
        file.seek(0)
        refuse_pointer(path, start)
        for mark, what in NOT_READ.items():
            if start.startswith(mark):
                raise ArenaError(f"{path} is {what}")
        if start.startswith(GZIP):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        elif start.startswith(BZIP2):
            with bz2.BZ2File(file) as unpacked:
                yield unpacked
        elif start.startswith(XZ):
            with lzma.LZMAFile(file) as unpacked:
                yield unpacked
        elif start.startswith(ZSTD):
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd") as unpacked:
                yield unpacked
        else:
            yield file


def text_blocks(
    path: Path | str, content: Iterable[bytes] | None = None, *, whole_lines: bool = False
) -> Iterator[str]:
    """Read a text file as `read_text` does, but a block at a time.

    Args:
        path: of the file, packed or not.
        content: of it, where somebody else opens it.
        whole_lines: never cut a line; else one of more than a block is cut where it comes to that.

    Yields:
        Text; joined together it is the file's. Each block but the last ends with a line, or with a cut.

    Raises:
        ArenaError: as `read_text`; a line of more than 64 MiB, where lines stay whole.
    """
    line, encoding = 1, "utf-8"
    waiting = b""
    content = _content(Path(path)) if content is None else iter(content)
    for index, part in enumerate(content):
        block = waiting + part
        if index == 0:
            encoding = BYTE_ORDER_MARKS.get(block[:2], "utf-8")
            if encoding != "utf-8":
                yield from _other_encoding(path, encoding, itertools.chain([block], content))
                return
            block = block.removeprefix(codecs.BOM_UTF8)
        end = block.rfind(b"\n") + 1
        if not end and len(block) > (LONGEST_LINE if whole_lines else BLOCK):
            if whole_lines:
                raise ArenaError(f"{path}: line {line} has more than {LONGEST_LINE >> 20} MiB; it is no record")
            end = _between_characters(block)
        if end:
            yield _decoded(path, block[:end], line)
            line += block.count(b"\n", 0, end)
        waiting = block[end:]
    if waiting:
        yield _decoded(path, waiting, line)


def _content(path: Path) -> Iterator[bytes]:
    with open_unpacked(path) as file:
        while True:
            try:
                content = file.read(BLOCK)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise ArenaError(
                    f"{path} cannot be unpacked ({error}); it is damaged or cut off: fetch it again"
                ) from None
            if not content:
                return
            yield content


def _between_characters(block: bytes) -> int:
    """Where to cut a block without a line end: after its last space, else between two characters."""
    end = block.rfind(b" ") + 1 or len(block)
    while end > 1 and end < len(block) and block[end] & 0xC0 == 0x80:
        end -= 1
    if end == len(block):  # the last character may not be whole
        end -= next((back for back in range(1, 4) if block[-back] & 0xC0 == 0xC0), 0)
    return end


def _decoded(path: Path | str, content: bytes, line: int) -> str:
    zero = content.find(b"\0")
    if zero >= 0:
        line += content.count(b"\n", 0, zero)
        raise ArenaError(f"{path} is binary: a byte in line {line} is zero; give a UTF-8 text file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + content.count(b"\n", 0, error.start)
        raise ArenaError(
            f"{path} is not UTF-8: a byte in line {at} is 0x{content[error.start]:02x}; save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n") if "\r\n" in text else text


def _other_encoding(path: Path | str, encoding: str, contents: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    waiting = ""
    try:
        for content in contents:
            text = waiting + decoder.decode(content)
            end = text.rfind("\n") + 1
            if not end and len(text) > LONGEST_LINE:
                raise ArenaError(f"{path} has a line of more than {LONGEST_LINE:,} characters")
            if end:
                yield text[:end].replace("\r\n", "\n")
            waiting = text[end:]
        waiting += decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise ArenaError(f"{path} is binary or damaged UTF-16; give a UTF-8 text file") from None
    if waiting:
        yield waiting
