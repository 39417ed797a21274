"""Addresses beside folders: what fsspec opens, and what the file system does."""

from __future__ import annotations

import re


def is_address(text: str) -> bool:
    """Whether a text is an address and not a folder.

    Example:
        >>> is_address("s3://bucket/run"), is_address("runs/joint-1")
        (True, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]*://", text) is not None
