"""Run the file work of requests to Cloud Storage in threads, so that no request keeps the event loop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from airflow_provider_nbjob.emulator.objects import Objects
from airflow_provider_nbjob.emulator.storage_messages import SLICE
from airflow_provider_nbjob.emulator.stored_object import Draft

# Lists of large buckets and the content of large objects have their own, so that no small request waits for them
FILE_THREADS, CONTENT_THREADS, LIST_THREADS = 8, 4, 2

P = ParamSpec("P")
T = TypeVar("T")


class Run(Protocol):
    """A function that calls another one in a thread, and returns its result."""

    def __call__(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> Awaitable[T]:
        """Call a function in a thread."""


class StorageThreads:
    """The threads of one server."""

    def __init__(self) -> None:
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, "storage")
        self._content_threads = ThreadPoolExecutor(CONTENT_THREADS, "storage-content")
        self._list_threads = ThreadPoolExecutor(LIST_THREADS, "storage-list")

    def close(self) -> None:
        """End the threads; the calls that have begun are finished."""
        for threads in (self._file_threads, self._content_threads, self._list_threads):
            threads.shutdown(cancel_futures=True)

    async def run(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function that uses files for a moment."""
        return await _run_in(self._file_threads, partial(call, *arguments, **options))

    async def run_content(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function that reads or writes a slice of a large content."""
        return await _run_in(self._content_threads, partial(call, *arguments, **options))

    async def run_list(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function that goes through all objects of a bucket, or through all buckets."""
        return await _run_in(self._list_threads, partial(call, *arguments, **options))

    def run_for(self, size: int) -> Run:
        """Return the method that calls a function which reads or writes `size` bytes."""
        return self.run if size < SLICE else self.run_content

    @asynccontextmanager
    async def draft(self, objects: Objects) -> AsyncIterator[Draft]:
        """Begin a draft; discard it at the end of the block, unless it has become an object."""
        draft = await self.run(objects.draft)
        try:
            yield draft
        finally:
            await self.run(draft.discard)


async def _run_in(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, call)
