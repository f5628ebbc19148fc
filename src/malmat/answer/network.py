"""What lies between an SDK and its server: addresses, proxies, certificates, redirects, time."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from malmat.errors import InputError

TOTAL_S = 600.0
"""The longest time from a reply's head to its end: a server that sends a blank line now and then
keeps the limit between two reads from ever being reached."""

CONNECT_S = 10.0

_UNREACHED = {
    *("ConnectError", "ConnectTimeout"),  # httpx
    *("NewConnectionError", "ConnectTimeoutError", "NameResolutionError"),  # urllib3
}
"""Exceptions that say that no connection came about."""


def check_address(url: str, field: str = "base_url") -> str:
    """The address of a server, as given.

    Raises:
        InputError: it is no http address.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        good = False
    if not good:
        raise InputError(
            f"'{url}' is no address",
            field=field,
            fix="Give http://HOST:PORT/v1, or several with commas between.",
        )
    return url


def is_on_this_machine(url: str | None) -> bool:
    """Whether an address is one of this machine's own, which no proxy leads to."""
    host = urlsplit(url or "").hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def client_options(url: str | None, hooks: Iterable[Callable] = ()) -> dict[str, Any]:
    """The arguments of an httpx client for a server.

    Args:
        hooks: called with each response before its body is read.
    """
    options: dict[str, Any] = {"event_hooks": {"response": [*hooks]}} if hooks else {}
    if is_on_this_machine(url):  # neither proxies nor, without TLS, certificates matter
        options["trust_env"] = False
        if urlsplit(url or "").scheme == "http":
            options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        elif file := os.environ.get("SSL_CERT_FILE"):
            options["verify"] = ssl.create_default_context(cafile=file)
    return options


@contextlib.contextmanager
def opening_a_client() -> Iterator[None]:
    """Turns what the environment has wrong for an SDK's client into one line.

    Raises:
        InputError: a proxy of a kind that is not known or has no package here, or a file of
            certificates that is not there or is none.
    """
    proxies = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
    known = [n for name in proxies for n in (name, name.lower()) if os.environ.get(n)]
    certificates = [n for n in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(n)]
    try:
        yield
    except ImportError as error:
        if "SOCKS" not in str(error):
            raise
        raise InputError(
            "a SOCKS proxy needs a package that is not installed",
            field=_variable(known, "socks"),
            fix="pip install 'httpx2[socks]' 'httpx[socks]', or unset the variable.",
        ) from None
    except (OSError, ssl.SSLError) as error:
        if not certificates:
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{os.environ[certificates[0]]}: {reason}",
            field=certificates[0],
            fix="Give a file of certificates, or unset the variable.",
        ) from None
    except ValueError as error:  # of the proxy's address: the server's own has been checked
        if not known:
            raise
        raise InputError(
            f"no proxy can be reached so ({error})",
            field=_variable(known),
            fix="Give http://HOST:PORT, or unset the variable.",
        ) from None


def _variable(names: list[str], kind: str = "") -> str:
    """The variable whose value is of a kind; the first one where none is."""
    found = (name for name in names if kind and os.environ[name].startswith(kind))
    odd = (name for name in names if not os.environ[name].startswith("http"))
    return next(found, next(odd, names[0] if names else "proxy"))


# ------------------------------------------------------------------------ hooks of httpx


def refuse_redirect(status: int, method: str, url: str, location: str | None) -> None:
    """Refuse a redirect after which a POST would go on as a GET.

    Raises:
        InputError: it says where the server sends its callers.
    """
    if status in (301, 302, 303) and method == "POST":
        place = (location or "nowhere").removesuffix("/chat/completions")
        raise InputError(
            f"{url} has moved ({status} to {location})", field="base_url", fix=f"Give {place}."
        )


def stays_in_place(response: Any) -> None:
    """A hook: ``refuse_redirect`` for httpx."""
    request = response.request
    location = response.headers.get("location")
    refuse_redirect(response.status_code, request.method, str(request.url), location)


def ends_in_time(response: Any) -> None:
    """A hook for httpx: reading the body raises its ReadTimeout after ``TOTAL_S``."""
    library: Any = importlib.import_module(type(response).__module__.partition(".")[0])
    stream, end = response.stream, time.monotonic() + TOTAL_S

    class InTime(library.SyncByteStream):  # type: ignore[name-defined]
        def __iter__(self) -> Iterator[bytes]:
            for part in stream:
                if time.monotonic() > end:
                    raise library.ReadTimeout(f"no end of the reply after {TOTAL_S:g} s")
                yield part

        def close(self) -> None:
            stream.close()

    response.stream = InTime()


# ---------------------------------------------------------------------- what went wrong


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it came from: "Connection error." alone says nothing."""
    for _ in range(6):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def chain(error: BaseException) -> str:
    """An exception and what it came from, on one line."""
    said: list[str] = []
    for cause in causes(error):
        if not any(str(cause) in earlier for earlier in said):
            said.append(f"{type(cause).__name__}: {cause}")
    return " ← ".join(said)


def names_of(error: BaseException) -> set[str]:
    """The names of an exception's classes: SDKs stand on several libraries, names are all that
    their exceptions share."""
    return {kind.__name__ for kind in type(error).__mro__}


def was_not_reached(error: BaseException) -> bool:
    """Whether an exception says that no connection came about."""
    # urllib3 keeps its reason in an attribute or in the arguments of what it raises.
    inner = [getattr(part, "reason", part) for cause in causes(error) for part in cause.args]
    found = [*causes(error), *(part for part in inner if isinstance(part, BaseException))]
    return any(names_of(cause) & _UNREACHED for cause in found)
