"""Why an installation of packages failed, read from what pip said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import MissingPackageError

_LINES = 200  # of the log that are kept
# In this order: pip says "no matching distribution" also when it could not ask anybody.
_REASONS = (
    (
        r"ProxyError|\b407\b|Cannot connect to proxy|Tunnel connection failed",
        "the proxy of this network did not let the installation through",
        "Ask for the address of the proxy, set HTTPS_PROXY to it, start Slicer again and try again",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "the secure connection to the server of packages was not accepted",
        "Check the date of this computer; in a company's network ask for its certificate. Then try again",
    ),
    (
        r"name resolution|getaddrinfo failed|nodename nor servname|Name or service not known|Network is unreachable"
        r"|No route to host|NewConnectionError",
        "this computer is offline: the server of packages was not found",
        "Connect to the internet and try again; without a connection, install the packages from files",
    ),
    (
        r"ReadTimeout|ConnectTimeout|Read timed out|Connection timed out|connection attempt failed|ConnectionReset"
        r"|Connection aborted|IncompleteRead",
        "the connection to the server of packages was too slow or broke off",
        "Try again: what was downloaded is kept. Try another network if it happens again",
    ),
    (
        r"No space left on device|Errno 28\b|not enough space on the disk|Errno 122\b|[Dd]isk quota",
        "the disk is full",
        "Make room for the packages and try again",
    ),
    (
        r"being used by another process|WinError 32\b",
        "a package that is to be replaced is in use",
        "Restart Slicer and try again before anything else",
    ),
    (
        r"Permission denied|Errno 13\b|Access is denied|WinError 5\b|Read-only file system|Errno 30\b",
        "Slicer's folder may not be written to by this account",
        "Install Slicer in a folder of your own, or start it once as administrator, and try again",
    ),
    (
        r"DO NOT MATCH THE HASHES|BadZipFile|not a valid wheel|Wheel .* is invalid",
        "a package arrived damaged",
        "Try again, to download it anew",
    ),
    (
        r"No matching distribution found|Could not find a version|requires a different Python|Requires-Python",
        "there is no version of a package for this Python and system",
        "Update Slicer to its latest version and try again",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "the packages contradict another one that is installed",
        "Look at the details, uninstall the one that is named there, and try again",
    ),
    (r"MemoryError|Killed", "memory ran out during the installation", "Close other programs and try again"),
)


def installation_error(names: str, log: Sequence[str]) -> MissingPackageError:
    """The error that fits pip's log; its ``details`` hold the end of the log.

    Parameters
    ----------
    names : of the packages that were to be installed.
    """
    text = "\n".join(log)
    what, remedy = "the installation failed", "Look at the details, and try again"
    for pattern, reason, advice in _REASONS:
        if re.search(pattern, text):
            what, remedy = reason, advice
            break
    error = MissingPackageError(f"{names}: {what}", remedy)
    error.details = tuple(log[-_LINES:])
    return error
