"""Stand-ins for what would wait for a user or leave the process: file dialogs, and opening a file elsewhere."""

from __future__ import annotations

from typing import Any


class QFileDialog:
    """File dialogs whose user presses Cancel."""

    @staticmethod
    def getOpenFileName(*arguments: Any) -> str:
        return ""

    getExistingDirectory = getSaveFileName = getOpenFileName


class QDesktopServices:
    """Opens nothing; what was asked for is kept in ``opened``."""

    opened: list[Any] = []

    @staticmethod
    def openUrl(url: Any) -> bool:
        QDesktopServices.opened.append(url)
        return True
