"""`segan serve`: a web page where people drop pictures and see masks, from exported files alone."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from segan.errors import ConfigError


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_megabytes: float = 32,
    max_megapixels: float = 4,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted.

    Args:
        paths: Files from `segan export`, at least one.
        host: Address to listen on; other machines can reach any but a loopback address.
        port: 0 takes a free one.
        max_megabytes: Of a picture's file.
        max_megapixels: Of a picture.
        ready: Is given the page's address once connections are accepted.

    Raises:
        ConfigError: A file cannot be used, the address cannot be listened on, a limit or the port
            is out of range, or the packages for serving are missing.
    """
    require_serve()
    import uvicorn

    from segan.serve.app import build_app
    from segan.serve.masks import Limits, Masks, open_models

    if not 0 <= port < 2**16:
        # The system would take it modulo 65536.
        raise ConfigError(f"--port is {port}; it must be from 0 to {2**16 - 1}")
    limits = Limits(megabytes=max_megabytes, megapixels=max_megapixels)
    masks = Masks(open_models(paths), limits)
    with _listening(host, port) as listener:
        app = build_app(masks, hosts=_hosts(host))
        settings = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        address = f"[{host}]" if ":" in host else host
        listener.listen()
        ready(f"http://{address}:{listener.getsockname()[1]}")
        # Ctrl-C is how serving ends.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[listener])


def require_serve() -> None:
    """Raises ConfigError, with the command that mends it, when the web packages are missing."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f'segan serve needs the package {error.name}: pip install "segan[serve]"'
        ) from None


def _hosts(host: str) -> list[str]:
    """Names by which a browser may ask for the page.

    A loopback server answers to loopback names alone, so that no page from elsewhere can reach it
    by a name of its own that resolves to this machine.
    """
    if host == "localhost" or _is_loopback(host):
        return ["localhost", "127.0.0.1", "::1", "[::1]", host]
    return ["*"]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}: {error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror}; give another --port"
        ) from None
    return listener
