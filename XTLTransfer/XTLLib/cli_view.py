"""The command ``xtl view``: a scene in the browser."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``xtl view`` its arguments."""
    parser.add_argument("scene", type=Path, metavar="SCENE.mrb")
    parser.add_argument("--port", type=_port, default=0, help="default: one that is free")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone)")
    parser.add_argument("--token", help="what a browser has to know; needed with another --host")
    parser.add_argument("--bundle", type=Path, help="of the Run button (default: the model that the result names)")
    parser.add_argument("--no-browser", action="store_true", help="say the address and open nothing")


def view(arguments: argparse.Namespace) -> None:
    """Run the command; returns when it is interrupted."""
    from .scene.web_server import serve_scene

    serve_scene(
        arguments.scene,
        port=arguments.port,
        host=arguments.host,
        token=arguments.token,
        bundle=arguments.bundle,
        open_browser=not arguments.no_browser,
        say=lambda words: print(words, file=sys.stderr if arguments.progress == "json" else sys.stdout, flush=True),
    )


def show_at_the_end(scene: Path) -> None:
    """Show the scene that a command has made, where somebody sits before a terminal; else say how to see it.

    Continuous integration, which sets ``CI``, and a command whose output is read by a program, do not wait for a page.
    """
    from .errors import XTLError
    from .scene.web_server import serve_scene

    if os.environ.get("CI") or not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(f"To look at it: xtl view {scene}")
        return
    try:
        serve_scene(scene)
    except XTLError as error:  # the demonstration itself has succeeded
        print(f"The scene is not shown: {error}")


def _port(text: str) -> int:
    if not (text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text} is no port; give a number from 1 to 65535, or 0 for a free one")
    return int(text)
