"""How a server is reached: proxies, certificates, allowed addresses. The same for every destination over HTTP."""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from export_pipeline.errors import Blocked
from export_pipeline.subscribers.networks import Networks

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """The settings with which a subscriber's connections are opened.

    Attributes:
        proxy_url: the proxy to use instead of the environment's.
        ca_file: certificate authorities to trust (PEM) instead of the operating system's, or of those that
            SSL_CERT_FILE or SSL_CERT_DIR names.
        client_cert_file: the client certificate (PEM), with its chain.
        client_key_file: its key, if it is not in the same file.
        client_key_password: password of the key, if it is encrypted.
        verify: whether the server's certificate is verified.
        networks: which addresses the server may have, if no proxy is used.
    """

    proxy_url: str | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None
    client_key_password: str | None = field(default=None, repr=False)
    verify: bool = True
    networks: Networks = "private"

    def tls(self) -> ssl.SSLContext:
        """The TLS settings, with the present content of these files.

        Raises:
            Blocked: a file is missing or invalid. A retry would not help.
        """
        context = self._trusting()
        if self.client_cert_file is not None:
            cert, key = self.client_cert_file, self.client_key_file
            name = f"client_cert_file {cert}" + (f" with client_key_file {key}" if key else "")

            def password() -> str:
                return self.client_key_password or ""  # otherwise OpenSSL would prompt on the terminal

            _read(lambda: context.load_cert_chain(cert, key, password=password), name, "certificate and key (PEM)")
        return context

    def shared_tls(self) -> ssl.SSLContext:
        """As :meth:`tls`, for clients that do not change it: all that trust what the operating system trusts share one.

        To read its authorities takes longer than many a request.

        Raises:
            Blocked: a file is missing or invalid. A retry would not help.
        """
        if not self.verify or self.ca_file is not None or self.client_cert_file is not None:
            return self.tls()
        return _system_tls(_system_authorities())

    def _trusting(self) -> ssl.SSLContext:
        import httpx2

        if not self.verify:
            return httpx2.create_ssl_context(verify=False)
        if self.ca_file is None:
            # Includes those of OpenSSL's environment variables.
            return _read(httpx2.create_ssl_context, "SSL_CERT_FILE", "certificate authorities (PEM)")
        path = self.ca_file
        return _read(
            lambda: ssl.create_default_context(cafile=path), f"ca_file {path}", "certificate authorities (PEM)"
        )


# Where the operating system's authorities are, and what tells whether they were changed.
_Authorities = tuple[tuple[str, int, int, int], ...]


def _system_authorities() -> _Authorities:
    paths = ssl.get_default_verify_paths()
    environ = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    found = []
    for path in (*environ, paths.openssl_cafile, paths.openssl_capath):
        try:
            state = os.stat(path or "")
        except OSError:
            found.append((path or "", 0, 0, 0))
        else:
            found.append((path or "", state.st_ino, state.st_mtime_ns, state.st_size))
    return tuple(found)


@lru_cache(1)
def _system_tls(_authorities: _Authorities) -> ssl.SSLContext:
    return Connections().tls()


def _read(make: Callable[[], T], name: str, what: str) -> T:
    try:
        return make()
    except ssl.SSLError as error:
        raise Blocked(f"{name}: found no {what}: {error.reason or error}") from None
    except OSError as error:
        raise Blocked(f"{name}: cannot be read: {error.strerror or error}") from None
