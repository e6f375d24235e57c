"""A disk that is full, for a while.

What Python compiles of the modules that it imports must not be written then: it would be cut off without a word, and
whoever imports them next would fail. Processes of their own are therefore started with `python -B`.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def limit_files(size: int) -> None:
    """No file of this process can grow beyond `size` bytes: the write itself fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """`limit_files`, only around what is tested: the output of the tests may be a file, too."""
    before, written = resource.getrlimit(resource.RLIMIT_FSIZE)[0], sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    limit_files(size)
    try:
        yield
    finally:
        limit_files(before)
        sys.dont_write_bytecode = written
