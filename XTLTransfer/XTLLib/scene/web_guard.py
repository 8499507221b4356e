"""Who may see the page: a check of every request, the websocket's included, before anything else looks at it."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from ..errors import InputError

_COOKIE = "xtl-page"
_SHORTEST_TOKEN = 16
_HEADERS = {
    # The template is compiled in the browser, which Vue does by Function(); scripts within a page are not run.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-eval'; connect-src 'self' ws: wss:; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine and nobody else's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_host(host: str, token: str | None) -> None:
    """Raise InputError where a page would be open to others without a token, or with one that is soon guessed."""
    if token is None and not is_loopback(host):
        raise InputError(
            f"--host {host} shows the scene to everybody who reaches this machine",
            "Give a --token that they have to know, or leave --host out",
        )
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(
            f"the token is shorter than {_SHORTEST_TOKEN} characters, or not of plain letters and digits",
            "Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe())'",
        )


class Guard:
    """Lets requests through or not.

    * Without a token, the page is asked for by the names of this machine only: a site of somebody else whose name
      was made to point here (DNS rebinding) is refused.
    * With a token, the first request carries it as ``?token=``; a cookie that no script can read stands for it
      afterwards. Compared in constant time.
    * A request that another site's page makes (``Origin``) is refused: websockets know no same-origin policy.

    What is refused gets 403 and no content.

    Parameters
    ----------
    token : None for none.
    """

    def __init__(self, token: str | None = None) -> None:
        self._token = token
        self._session = secrets.token_urlsafe(32)

    def middleware(self) -> Callable[..., Awaitable[Any]]:
        """For aiohttp.web.Application.middlewares."""
        from aiohttp import web

        @web.middleware
        async def check(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
            if not (self._is_known_host(request) and self._is_own_page(request)):
                return web.Response(status=403)
            if self._token is not None and not self._has_cookie(request):
                if not self._has_token(request):
                    return web.Response(status=403)
                answer = web.Response(status=303, headers={"Location": "/index.html", **_HEADERS})
                answer.set_cookie(_COOKIE, self._session, httponly=True, samesite="Strict", path="/")
                return answer
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                error.headers.update(_HEADERS)
                raise
            except ConnectionError:  # the browser is gone, which is no error
                return web.Response()
            if not answer.prepared:
                answer.headers.update(_HEADERS)
            return answer

        return check

    def _is_known_host(self, request: Any) -> bool:
        return self._token is not None or is_loopback(_name_of(request.headers.get("Host", "")))

    def _is_own_page(self, request: Any) -> bool:
        origin = request.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == request.headers.get("Host", "")

    def _has_token(self, request: Any) -> bool:
        return _is_equal(request.query.get("token", ""), self._token)

    def _has_cookie(self, request: Any) -> bool:
        return _is_equal(request.cookies.get(_COOKIE, ""), self._session)


def _is_equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), known.encode("utf-8"))


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
