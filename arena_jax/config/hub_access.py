"""What data and models both do about the Hugging Face Hub."""

from __future__ import annotations

import difflib
import os
import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["near_here", "stay_offline_if_unreachable"]


def near_here(name: str) -> str:
    """The local file or folder that a name which the Hub does not know was probably meant for.

    Returns:
        A clause for the end of an error message; empty where nothing here is called alike.
    """
    path = Path(name)
    beside = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
    beside = [other for other in beside if other != path.name]  # what was given is no hint
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f"; did you mean '{path.with_name(close[0])}'?" if close else ""


def stay_offline_if_unreachable() -> None:
    """Without a network, let the Hub's clients look into their caches alone: else they try again for half a minute.

    Works where they are imported later than this is called.
    """
    if "HF_HUB_OFFLINE" in os.environ or urllib.request.getproxies():
        return
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
