"""``xtl view``: serves the page of a scene until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingPackageError
from .offscreen_views import draw_off_screen
from .open_scene import open_scene
from .viewed_scene import ViewedScene
from .web_guard import Guard, check_host
from .web_page import Page

LOOPBACK = "127.0.0.1"
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_EXTRA = 'pip install ".[scene,web]", in the folder of XTL\'s source'


def serve_scene(
    path: str | os.PathLike,
    *,
    port: int = 0,
    host: str = LOOPBACK,
    token: str | None = None,
    bundle: str | os.PathLike | None = None,
    open_browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Show a scene file in the browser; returns when the process is interrupted.

    Parameters
    ----------
    path : an MRB file of ``xtl demo``, ``xtl segment``, ``xtl classify`` or Slicer. It is never written to.
    port : 0 takes a free one. host : the address to listen at; others than this machine's own need a ``token``.
    bundle : of the Run button; None: the one that the result names, beside the scene or in the model library.
    say : is given the page's address, once it can be opened.

    Raises
    ------
    InputError : no such scene, a port or an address that cannot be used, a host without a token.
    MissingPackageError : trame or slicer-core is not installed.
    """
    check_host(host, token)
    _require_packages()
    draw_off_screen()
    with _interrupted_by_requests(), open_scene(path) as session:
        viewed = ViewedScene(session, Path(path).absolute().parent, bundle)
        try:
            asyncio.run(_serve(viewed, Path(path).name, host, port, token, open_browser, say))
        except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl+C, or a polite request to end
            pass
        finally:
            viewed.close()


async def _serve(
    viewed: ViewedScene, name: str, host: str, port: int, token: str | None, open_browser: bool, say: Callable
) -> None:
    from trame.app import get_server

    server = get_server("xtl-view", client_type="vue3")
    page = Page(server, viewed, name)

    def ready(**_: object) -> None:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{server.port}/"
        if token is not None:
            address += f"?token={token}"
        say(f"{name} is shown at {address} (Ctrl+C ends)")
        if open_browser:
            webbrowser.open(address)

    def bind(wslink: Any) -> None:
        wslink.app.middlewares.append(Guard(token).middleware())
        wslink.app.router.add_get("/index.html", _index)  # before trame's own

    server.controller.on_server_bind.add(bind)
    server.controller.on_server_ready.add(ready)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    logging.getLogger("wslink").setLevel(logging.CRITICAL)  # a browser's leaving is no error; ours are raised
    with suppress(NotImplementedError):  # Windows
        for one in _ENDS:
            loop.add_signal_handler(one, asyncio.current_task().cancel)
    with _quiet_start():
        running = server.start(
            port=port, host=host, exec_mode="coroutine", open_browser=False, show_connection_info=False,
            disable_logging=True, timeout=0, thread=True, backend="aiohttp",
        )  # fmt: skip
    tasks = [asyncio.ensure_future(one) for one in (running, page.keep_showing())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a page that cannot draw any more ends with its error, not as one that shows nothing
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"the port {port} of {host} is taken", "Choose another --port, or leave it out") from error
        reason = error.strerror or str(error)
        raise InputError(f"the page cannot be served at {host}, port {port} ({reason})", "Choose others") from error
    finally:
        for task in tasks:
            task.cancel()


async def _index(_: Any) -> Any:
    """trame's first page, without its script.

    That script puts "Loading..." in the page's place when the file with these words has come, which may be after the
    page itself.
    """
    from aiohttp import web
    from trame_client.module import vue3

    page = (Path(vue3.www) / "index.html").read_text(encoding="utf-8")
    page = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    page = re.sub(r"(?<=width=device-width),[^\"]*", "", page)  # which forbids to enlarge the page by two fingers
    page = re.sub(r"(?<=<title>).*?(?=</title>)", "XTL", page)
    return web.Response(text=page, content_type="text/html")


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a task of the network layer has met: that a browser is closed while a picture is sent is no error."""
    if not isinstance(context.get("exception"), ConnectionError):
        loop.default_exception_handler(context)


def _require_packages() -> None:
    try:
        for name in ("trame.app", "trame.ui.html", "trame.widgets.client", "aiohttp"):
            import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"the web page needs the package trame, which cannot be imported ({error})", f"Install it with: {_EXTRA}"
        ) from error


@contextmanager
def _interrupted_by_requests() -> Iterator[None]:
    """Requests to end are as Ctrl+C, so that what was unpacked and the worker are not left behind."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, interrupt) for one in _ENDS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """trame reads the command line, which is ours, and its network layer announces itself on the standard output."""
    before, sys.argv = sys.argv, sys.argv[:1]
    os.environ["WSLINK_READY_MSG"] = ""
    try:
        yield
    finally:
        sys.argv = before
