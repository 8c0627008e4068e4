"""Which address a receiver may have. It is checked on the connection itself, before anything is sent over it.

Checking the name beforehand would prove nothing: its DNS server may return another address for the second query (DNS
rebinding).
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Literal

from export_pipeline.errors import Blocked

Networks = Literal["public", "private", "any"]

DESCRIPTION = (
    "Which addresses the receiver may have. public: only those of the internet; private: also those of private "
    "networks and of this machine; any: also those at which clouds give credentials to every client (link-local ones "
    "such as 169.254.169.254). Checked on the connection before anything is sent, but not if a proxy is used."
)

# Metadata services of clouds that are not at link-local addresses: AWS (RFC 4193, below fd00:ec2::), Google, Alibaba,
# Azure and Oracle.
_METADATA = tuple(
    ip_network(text) for text in ("fd00:ec2::/32", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
# Addresses that older versions of Python treat as global: site-local ones (RFC 3879), those for protocols (RFC 6890),
# and those for documentation (RFC 9637).
_NOT_GLOBAL = tuple(ip_network(text) for text in ("fec0::/10", "192.0.0.0/24", "3fff::/20"))
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address that is reached


def refusal(address: str, networks: Networks) -> str:
    """Why nothing is sent to *address*, as the end of a sentence; empty if it is allowed.

    Args:
        address: as returned by a socket for its peer.
    """
    found = _reached(ip_address(address))
    if networks == "any":
        return ""
    if found.is_link_local or any(found in network for network in _METADATA):
        return "is one at which clouds give credentials to every client; only networks: any allows it"
    if found.is_multicast or found.is_unspecified or (found.is_reserved and not found.is_loopback):
        return "belongs to no machine; only networks: any allows it"
    if networks == "public" and (not found.is_global or any(found in network for network in _NOT_GLOBAL)):
        return "is not an internet address; networks: private allows it"
    return ""


def check_address(place: str, address: str, networks: Networks) -> None:
    """Check that *address* is allowed.

    Args:
        place: the host that has it, for the message.

    Raises:
        Blocked: it is not.
    """
    if reason := refusal(address, networks):
        raise Blocked(f"{place} has the address {address}, which {reason}")


class Watch:
    """httpx2's extension ``trace``: called for each connection that a request opens, before TLS and before sending.

    Checks the address of a connection to *host*; another connection is to a proxy, which may be anywhere.

    Args:
        host: of the request, as httpx2 connects to it.
        place: the same, for messages.
        networks: which addresses it may have.
    """

    def __init__(self, host: bytes, place: str, networks: Networks) -> None:
        self._host = host.decode("ascii").lower()
        self._place = place
        self._networks = networks
        self._is_direct = False

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Close the connection and raise Blocked if nothing may be sent over it."""
        if event == "connection.connect_tcp.started":
            self._is_direct = info["host"].lower() == self._host
        elif event == "connection.connect_tcp.complete" and self._is_direct:
            stream = info["return_value"]
            try:
                check_address(self._place, stream.get_extra_info("server_addr")[0], self._networks)
            except BaseException:
                stream.close()
                raise


def _reached(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address in *address*, if it is an IPv6 address that contains one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
