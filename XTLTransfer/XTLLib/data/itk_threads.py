"""ITK on one thread, where the order of sums would otherwise differ between runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_itk_thread() -> Iterator[None]:
    """ITK's filters made within the block run on one thread: the same input gives the same bits.

    A filter's own setting does not reach the filters inside it; the process's default does.
    """
    import SimpleITK

    threads = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
