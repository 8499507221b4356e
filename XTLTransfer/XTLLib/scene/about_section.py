"""The section "About and self-check" at the end of each panel.

Widgets and timers are known by their properties only, so that no GUI library is needed here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .error_display import failures_shown, shown

if TYPE_CHECKING:
    from .self_check import SelfCheck

_UI_FILE = Path(__file__).resolve().parents[2] / "Resources" / "UI" / "XTLAbout.ui"
_POLL_MS = 100


class AboutSection:
    """Says what XTL is, and checks on request whether it works here.

    Parameters
    ----------
    layout : of the module's panel; the section is added at its end, and room below it. timer : a new qt.QTimer.
    """

    def __init__(self, layout: Any, timer: Any) -> None:
        import slicer
        from slicer.i18n import tr

        self._tr, self._timer = tr, timer
        self._check: SelfCheck | None = None
        self._widget = slicer.util.loadUI(str(_UI_FILE))
        self.ui = slicer.util.childWidgetVariables(self._widget)
        layout.addWidget(self._widget)
        layout.addStretch(1)  # a window higher than the panel leaves its room empty below
        text = tr("XTL {version}: transfer learning from mammograms to MRI. Research software, not a medical device.")
        self.ui.aboutLabel.text = text.format(version=__version__)
        self.ui.selfCheckText.visible = self.ui.copyButton.visible = False
        self.ui.selfCheckButton.connect("clicked(bool)", shown(self.start))
        self.ui.copyButton.connect("clicked(bool)", shown(self.copy))
        timer.setInterval(_POLL_MS)
        timer.connect("timeout()", self._poll)

    def start(self) -> None:
        """Check in a process of its own; the panel stays usable."""
        from .self_check import SelfCheck

        self.close()
        self._check = SelfCheck()
        self._check.start()
        self.ui.selfCheckButton.enabled = False
        self.ui.selfCheckButton.text = self._tr("Checking ...")
        self._timer.start()

    def copy(self) -> None:
        """Put the report on the clipboard."""
        self.ui.selfCheckText.selectAll()
        self.ui.selfCheckText.copy()

    def close(self) -> None:
        """Stop a check that is under way; for a panel that goes away."""
        self._timer.stop()
        if self._check is not None:
            self._check.close()
            self._check = None
            self.ui.selfCheckButton.enabled = True
            self.ui.selfCheckButton.text = self._tr("Self-check")

    def _poll(self) -> None:
        if self._check is None:
            return
        report = None
        with failures_shown(self._tr("The self-check was not finished.")):
            report = self._check.poll()
            if report is None:
                return
        self.close()
        if report is not None:
            self.ui.selfCheckText.setPlainText(report.text)
            self.ui.selfCheckText.visible = self.ui.copyButton.visible = True
