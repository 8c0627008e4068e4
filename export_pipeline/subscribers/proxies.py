"""Which proxy a request uses: the deployment's, or the environment's (``https_proxy``, ``no_proxy``)."""

import re
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from export_pipeline.subscribers.scrubbing import public_url

SCHEMES = ("http", "https", "socks5", "socks5h")
_SEPARATORS = re.compile(r"[,\s]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, configured: str | None = None) -> str | None:
    """The proxy for requests to *url*; None: they go directly there.

    Args:
        configured: the subscriber's proxy, which overrides the environment.
    """
    if configured:
        return configured
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    if not proxy or _is_excepted(host, parts.port or _DEFAULT_PORTS.get(parts.scheme), proxies.get("no")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def check_proxy(url: str) -> str:
    """*url*, if requests can go through it.

    Raises:
        ValueError: it is not the URL of a proxy.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(
            f"{public_url(url)!r} is not a proxy; allowed: {', '.join(f'{scheme}://…' for scheme in SCHEMES)}"
        )
    return url


def check_http_proxy(url: str) -> str:
    """*url*, if it is a proxy that every client supports, which excludes SOCKS.

    Raises:
        ValueError: it is not.
    """
    if not urlsplit(check_proxy(url)).scheme.startswith("http"):
        raise ValueError(f"{public_url(url)} is a SOCKS proxy; allowed for this destination: http://…, https://…")
    return url


def _is_excepted(host: str, port: int | None, no_proxy: str | None) -> bool:
    """Whether *no_proxy* names *host*: by name, domain, address or address range (CIDR), with or without a port."""
    if no_proxy is None:
        return bool(proxy_bypass(host))  # the system's own settings
    return any(_names(entry, host.lower(), port) for entry in _SEPARATORS.split(no_proxy.lower()) if entry)


def _names(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    entry, entry_port = _without_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        domain = entry.lstrip("*").lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address in network or (mapped is not None and mapped in network)


def _without_port(entry: str) -> tuple[str, int | None]:
    """Split an entry such as ``example.com:8443``, ``[fd00::1]:8443`` or ``[fd00::]/8`` into host and port."""
    if found := re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d+))?", entry):
        return found[1] + (found[2] or ""), int(found[3]) if found[3] else None
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and ":" not in host:
        return host, int(port)
    return entry, None
