"""A file for HDF5, which does not survive a failing write: it prints tracebacks, and may crash at the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class PatientStream(io.FileIO):
    """A file that HDF5 believes always to be written.

    The first error is kept, for `raise_error` where it can be dealt with; from then on writes are held in memory, so
    that HDF5 reads what it wrote and comes to its end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None
        self._held: list[tuple[int, bytes]] = []

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        start = self.tell()
        if self._error is None:
            try:
                written = 0
                while written < view.nbytes:
                    written += super().write(view[written:])
            except OSError as error:
                self._error = error
        if self._error is not None:
            self._held.append((start, bytes(view)))
            self.seek(start + view.nbytes)
        return view.nbytes

    def readinto(self, data: WriteableBuffer, /) -> int:
        view = memoryview(data)
        start = self.tell()
        found = super().readinto(view) or 0
        view[found:] = bytes(view.nbytes - found)  # beyond the end are zeros, as in HDF5's own drivers
        for position, held in self._held:
            first, last = max(start, position), min(start + view.nbytes, position + len(held))
            if first < last:
                view[first - start : last - start] = held[first - position : last - position]
        self.seek(start + view.nbytes)
        return view.nbytes

    def truncate(self, size: int | None = None, /) -> int:
        length = self.tell() if size is None else size
        if self._error is None:
            try:
                return super().truncate(length)
            except OSError as error:
                self._error = error
        return length

    def raise_error(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error
