"""pydicom without its warnings: they quote what a damaged header holds, which may be the patient's name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Within it, or in a function that it decorates, pydicom neither warns nor logs; what it raises comes through.

    pydicom looks at values when they are asked for: what reads a dataset belongs inside too.
    """
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled
