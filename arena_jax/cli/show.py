"""`arena-jax show`: the page of a run, or of several side by side, served to a browser of this machine or written."""

from __future__ import annotations

import argparse
import contextlib
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from arena_jax.cli import options
from arena_jax.config.errors import ArenaError

_ADDRESS = "127.0.0.1"  # other machines see nothing
_REFRESH = 10  # seconds, while a run is at work


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command.

    Args:
        commands: where commands are added.

    Returns:
        Its parser.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "show", help="the page of a run, or of several side by side, in a browser"
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument("--output", metavar="FILE", help="write the page to this file, and serve nothing")
    parser.add_argument("--port", default="0", metavar="N", help="of the local address; 0: any that is free [0]")
    parser.add_argument("--open", action="store_true", help="open a browser")
    parser.add_argument("--once", action="store_true", help="end when the page was loaded once")
    parser.set_defaults(call=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from arena_jax.runs import run_page

    folders = [Path(name) for name in arguments.runs]
    runs = [run_page.read_facts(folder) for folder in folders]  # what is no run is refused before anything is served
    if arguments.output is not None:
        path = Path(arguments.output)
        try:
            run_page.write(runs, path)
        except OSError as error:
            raise ArenaError(f"cannot write '{path}': {error.strerror or error}; give another --output") from None
        print(f"written: {path}")
        return 0
    server = serve(folders, options.parse(arguments.port, int, "--port"))
    with server, contextlib.suppress(KeyboardInterrupt):
        address = f"http://{_ADDRESS}:{server.server_port}/"
        print(f"{address}{'' if arguments.once else ' (Ctrl-C ends it)'}", flush=True)
        if arguments.open:
            webbrowser.open(address)
        if arguments.once:
            server.handle_request()
        else:
            server.serve_forever()
    return 0


def serve(folders: list[Path], port: int) -> ThreadingHTTPServer:
    """A server of the page, bound to a port of this machine; 0: any that is free.

    Raises:
        ArenaError: the port cannot be had.
    """
    try:
        return ThreadingHTTPServer((_ADDRESS, port), _handler(folders))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArenaError(f"--port {port} cannot be served: {reason}; give another, or 0") from None


def _handler(folders: list[Path]) -> type[BaseHTTPRequestHandler]:
    """What answers: the page of these folders as they are when it is asked for, and nothing else."""
    from arena_jax.runs import run_page

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0]
            if host not in (_ADDRESS, "localhost"):  # a page of the web whose name leads here may not read it
                return self.send_error(403)
            if self.path != "/":
                return self.send_error(404)
            try:
                runs = [run_page.read_facts(folder) for folder in folders]
            except ArenaError as error:
                return self.send_error(500, str(error).encode("ascii", "replace").decode())
            page = run_page.render(runs).encode("utf-8")
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            if not all(facts.over for facts in runs):
                self.send_header("Refresh", str(_REFRESH))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing: the address stands alone on the terminal."""

    return Handler
