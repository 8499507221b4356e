"""Why an installation failed: real words of pip, each told apart from the others."""

from __future__ import annotations

import pytest
from XTLLib.errors import MissingPackageError
from XTLLib.scene.install_failures import installation_error

RETRY = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by "
NOTHING = ["ERROR: Could not find a version that satisfies the requirement monai>=1.4 (from versions: none)"]
NOTHING += ["ERROR: No matching distribution found for monai>=1.4"]


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            [
                f"{RETRY}'NewConnectionError('Failed to establish a new connection: [Errno -3] Temporary failure in "
                "name resolution')': /simple/monai/",
                *NOTHING,
            ],
            "offline",
        ),
        ([f"{RETRY}'NameResolutionError(\"getaddrinfo failed\")'", *NOTHING], "offline"),
        ([f"{RETRY}'ReadTimeoutError(\"Read timed out. (read timeout=15)\")'", *NOTHING], "too slow"),
        ([f"{RETRY}'ConnectTimeoutError(connection to x timed out. (connect timeout=15))'", *NOTHING], "too slow"),
        (
            [
                f"{RETRY}'ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy "
                "Authentication Required'))'",
                *NOTHING,
            ],
            "proxy",
        ),
        ([f"{RETRY}'SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))'", *NOTHING], "secure"),
        (NOTHING, "no version"),
        (["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "disk is full"),
        (["ERROR: Could not install packages due to an OSError: [Errno 122] Disk quota exceeded"], "disk is full"),
        (["ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/opt/S'"], "not be wri"),
        (["ERROR: [WinError 5] Access is denied: 'C:\\\\Program Files\\\\Slicer'"], "not be written"),
        (["PermissionError: [WinError 32] The process cannot access the file because it is being used by another "
          "process"], "in use"),
        (["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."], "damaged"),
        (["ERROR: ResolutionImpossible: for help visit"], "contradict"),
        (["something nobody foresaw"], "the installation failed"),
    ],
)  # fmt: skip
def test_reasons_are_told_apart(log, words):
    error = installation_error("monai", ["Collecting monai>=1.4", *log])
    assert isinstance(error, MissingPackageError)
    assert error.what.startswith("monai: ")
    assert words in error.what
    assert "ry again" in error.remedy
    assert error.details[-1] == log[-1]


def test_a_long_log_is_cut():
    assert len(installation_error("monai", ["line"] * 5000).details) == 200
