"""One POST over HTTP, with an end: bounded in time and size, no redirects, a broken connection told from an answer."""

from __future__ import annotations

import http.client
import ipaddress
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any, NamedTuple

from vidssl.errors import VidsslError

MAX_BODY = 4 * 2**20  # bytes
_CHUNK = 65_536


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: Message
    body: bytes


class Unreachable(Exception):
    """No answer, or half of one; the text says why."""


def check_url(url: str) -> str:
    """An address to which paths can be added.

    Raises:
        VidsslError: for anything but http or https with a host and without user, query or fragment.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise VidsslError(f"base_url: {error}") from None
    if parts.username or parts.password:
        raise VidsslError("base_url: must not hold a user or password; name an environment variable instead")
    if parts.scheme not in ("http", "https") or not host:
        raise VidsslError(f"base_url {url!r}: must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment or any(c.isspace() or not c.isprintable() for c in url.strip()):
        raise VidsslError(f"base_url {url!r}: must not hold a query, a fragment or blanks")
    return url.strip().rstrip("/")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **options: Any) -> None:
        """A key must not travel to another host."""


def opener_for(url: str) -> urllib.request.OpenerDirector:
    """An opener that uses the proxies of the environment, except for this very machine."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if _is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def post(
    opener: urllib.request.OpenerDirector, url: str, body: bytes, headers: Mapping[str, str], timeout: float
) -> Reply:
    """Send a body and read the answer, whatever its status.

    Args:
        opener: from `opener_for`.
        url: http or https.
        body, headers: to send.
        timeout: seconds for connecting, for any pause, and for the whole body.

    Raises:
        Unreachable: when there is no whole answer in time, or it is larger than `MAX_BODY`.
    """
    deadline = time.monotonic() + timeout
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310  # checked
    try:
        try:
            response: Any = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return Reply(response.status, response.headers, _read(response, response.headers, deadline))
    except TimeoutError:
        raise Unreachable(f"no answer within {timeout:g} s") from None
    except urllib.error.URLError as error:
        late = isinstance(error.reason, TimeoutError)
        raise Unreachable(f"no answer within {timeout:g} s" if late else str(error.reason)) from None
    except (OSError, UnicodeError, http.client.HTTPException) as error:  # a host may be no host name
        raise Unreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from None


def retry_after(headers: Message, now: float) -> float | None:
    """Seconds that a server asks to wait, from a number or a date; None when it does not or cannot be read."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None


def _read(stream: IO[bytes], headers: Message, deadline: float) -> bytes:
    length = headers.get("Content-Length", "")
    expected = int(length) if length.isdigit() else None
    body = b""
    while expected is None or len(body) < expected:
        chunk = stream.read1(_CHUNK)  # type: ignore[attr-defined]  # at most one wait, unlike read
        if not chunk:
            break
        body += chunk
        if len(body) > MAX_BODY:
            raise Unreachable(f"the answer is larger than {MAX_BODY} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    if expected is not None and len(body) < expected:
        raise Unreachable(f"the connection closed after {len(body)} of {expected} bytes")
    return body


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
