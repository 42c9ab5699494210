"""Errand's Python side: one file, nothing but the standard library, Python 3.9 or newer.

    from errand import task, serve, current

    @task
    def order(id, amount):
        me = current()
        charge = me.step("charge", lambda: pay(id, amount))     # once, over crashes and retries
        packed = me.submit("pack", {"id": id}, step="pack")     # a child, found again by its step
        me.wait(packed)
        if not me.state:
            return me.suspend(inbox=True, until="3d", state={"charge": charge})
        return {"approved": [message.body for message in me.woken.messages]}

    if __name__ == "__main__":
        serve()

    python3 -m errand worker --url http://127.0.0.1:8080 orders.py

From outside: Client("http://127.0.0.1:8080").submit("order", 7, 12.5).wait(); in tests: Client("inline:").

How it is made. Everything that waits is written once, as a coroutine, above a `_Http` that has two sides: one whose
streams are asyncio's, and one whose streams block, so that its coroutines never suspend and `_drive` runs them on the
spot. A turn speaks through a transport (`_HttpTurn`); `_Inline` is a service in this process, behind the same `ask`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import datetime
import importlib
import importlib.util
import inspect
import io
import json
import logging
import os
import queue
import random
import re
import secrets
import select
import signal
import socket
import ssl
import sys
import threading
import time
import traceback
import urllib.parse
from typing import (TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Deque, Dict, Iterable,
                    Iterator, List, NoReturn, Optional, Sequence, Set, Tuple, TypedDict, TypeVar, Union, overload)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__version__ = "0.1.0"
__all__ = ["task", "on_start", "on_stop", "serve", "current", "current_async", "Turn", "AsyncTurn", "Child", "AsyncChild",
           "Client", "AsyncClient", "Handle", "AsyncHandle", "Group", "AsyncGroup", "Worker", "Message", "Outcome", "Woken", "Retry", "Fail",
           "ErrandError", "Problem", "Unreachable", "TaskFailed", "BadResult", "Cancelled", "LeaseLost"]

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
Duration = Union[str, int, float, datetime.timedelta]  # "1h30m", or seconds
When = Union[Duration, datetime.datetime]

_logger = logging.getLogger("errand")
_FINAL = ("succeeded", "failed", "cancelled")
_PATIENCE = 30.0  # s that an answer may take which waits for nothing
_LONGEST_WAIT = 30.0  # s of one request that waits; the server allows 60
_IDS_AT_ONCE = 1000  # of a wait
_LINES_AT_ONCE = 1000
_BYTES_AT_ONCE = 8 << 20
_MEMBERS_AT_ONCE = 100000  # of a group
_GROUP_BYTES = 32 << 20
_ASKS_FIRST = 256 << 10  # bytes of a body that are sent when the server has said that it takes them


# --- what can be wrong ---------------------------------------------------------------------------


class ErrandError(Exception):
    """Whatever Errand itself has to say."""


class Problem(ErrandError):
    """A refusal of the server: `status`, `type` (its stable name, as "queue-full"), `detail`, `errors`."""

    def __init__(self, status: int, body: Any = None) -> None:
        body = body if isinstance(body, dict) else {}
        self.status = status
        self.type: str = str(body.get("type", "")).rpartition(":")[2]
        self.title: str = body.get("title", "")
        self.detail: str = body.get("detail", "")
        self.errors: List[Dict[str, str]] = body.get("errors", [])
        super().__init__("%d %s: %s" % (status, self.type or "no problem document", self.detail or self.title))


class Unreachable(ErrandError, ConnectionError):
    """No answer: what was asked may have been done or not."""


class TaskFailed(ErrandError):
    """The invocation that was waited for has not succeeded. `error` is {type, message, ...}, or None."""

    def __init__(self, id: str, task: str, status: str, error: Optional[Dict[str, Any]]) -> None:
        self.id, self.task, self.status, self.error = id, task, status, error
        self.type: str = (error or {}).get("type", status)
        self.message: str = (error or {}).get("message", "")
        words = "%s %s is %s" % (task or "invocation", id, status)
        super().__init__(words + (": %s: %s" % (self.type, self.message) if error else ""))


class Fail(Exception):
    """raise Fail("out_of_stock", "no more of 17"): a failure of a type of your own. `retry`: False never, True whatever
    `retry_for` says; `after`: then, in place of the backoff."""

    def __init__(self, type: str, message: str = "", retry: Optional[bool] = None, after: Optional[Duration] = None) -> None:
        super().__init__(message)
        self.type, self.message, self.retry, self.after = type, message, retry, after


class Retry(Fail):
    """raise Retry(after="5s"): tried again whatever `retry_for` says, while `max_retries` last. Raised `from` another
    error, it is that one which is told."""

    def __init__(self, message: str = "", after: Optional[Duration] = None, type: str = "Retry") -> None:
        super().__init__(type, message, True, after)


class BadResult(ErrandError, TypeError):
    """It is not JSON. As the end of a body: a failure of the type `bad_result`."""


class Cancelled(BaseException):
    """Raised by what waits in a turn whose invocation is cancelled. As asyncio's: let it through."""


class LeaseLost(Cancelled):
    """The turn is somebody else's by now; nothing that it says counts."""


class _Refused(Exception):
    """The arguments do not fit the function."""


# --- JSON, durations, times ----------------------------------------------------------------------


def _json(value: Any, what: str = "the value") -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult("%s is not JSON: %s" % (what, error)) from None


_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")


def _seconds(value: Duration) -> float:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return float(value)
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError("%r is no duration: write \"1h30m\", \"250ms\", or seconds" % value)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _duration(value: Duration) -> str:
    """As the server reads it: numbers and timedeltas become milliseconds; a text is its to check."""
    if isinstance(value, str):
        return value
    milliseconds = _seconds(value) * 1000
    if milliseconds < 0:
        raise ValueError("%r is less than nothing" % (value,))
    return "%dms" % max(int(milliseconds), 1 if milliseconds else 0)


def _when(value: When) -> str:
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.timezone.utc)
        return utc.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (utc.microsecond // 1000)
    return _duration(value)


def _clean(text: str) -> str:
    """Without what no UTF-8 can say."""
    return text.encode("utf-8", "backslashreplace").decode()


def _cut_end(text: str, most: int) -> str:
    return text if len(text) <= most else text[-most:]


def _drive(work: Any) -> Any:
    """Runs a coroutine that never suspends: its streams block."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise RuntimeError("this cannot wait outside of a coroutine")


def _each(work: AsyncIterator[_T]) -> Iterator[_T]:
    """As _drive, of what comes one by one."""
    try:
        while True:
            yield _drive(work.__anext__())
    except StopAsyncIteration:
        pass
    finally:
        _drive(work.aclose())  # type: ignore[attr-defined]


# --- HTTP ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Body:
    data: bytes
    type: str = "application/json"


@dataclasses.dataclass
class _Answer:
    status: int
    headers: Dict[str, str]
    data: bytes

    def value(self) -> Any:
        kind = self.headers.get("content-type", "")
        if not self.data:
            return None
        if kind.startswith("application/x-ndjson"):
            return [json.loads(line) for line in self.data.splitlines() if line]
        return json.loads(self.data) if "json" in kind else self.data.decode("utf-8", "replace")

    def retry_after(self) -> float:
        try:
            return float(self.headers.get("retry-after", ""))
        except ValueError:
            return 0.0


class _Gone(OSError):
    """The other side hung up before it said anything."""


class _BlockingStream:
    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.file = connection, connection.makefile("rb")

    def set_timeout(self, seconds: float) -> None:
        self.connection.settimeout(seconds)

    async def write(self, data: bytes) -> None:
        self.connection.sendall(data)

    async def line(self) -> bytes:
        return self.file.readline(65537)

    async def exactly(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise OSError("the answer ends early")
        return data

    async def some(self) -> bytes:
        return self.file.read1(65536)

    def hang_up(self) -> None:
        """We say no more; what the other side has said already can still be read."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
            self.connection.close()

    def is_usable(self) -> bool:
        return True


class _AsyncStream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.loop = reader, writer, asyncio.get_running_loop()
        self.timeout = _PATIENCE

    def set_timeout(self, seconds: float) -> None:
        self.timeout = seconds

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), self.timeout)

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), self.timeout)

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), self.timeout)

    async def some(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(65536), self.timeout)

    def hang_up(self) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # its loop may be closed
            self.writer.close()

    def is_usable(self) -> bool:
        return self.loop is asyncio.get_running_loop()


_Stream = Union[_BlockingStream, _AsyncStream]


class _Http:
    """Requests to one server, over connections that are kept. May be used by any thread (the blocking side), or by any
    coroutine of the running loop (the other)."""

    def __init__(self, url: str, token: Optional[str] = None) -> None:
        self.url, self.token = url, token
        self.unix: Optional[str] = url[len("unix:"):] if url.startswith("unix:") else None
        parts = urllib.parse.urlsplit(url)
        if not self.unix and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("%r is no address: http://HOST:PORT, https://HOST:PORT or unix:PATH" % url)
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.name = "localhost" if self.unix else parts.hostname or ""
        self.port = parts.port or (443 if self.tls else 80)
        self.host = "localhost" if self.unix else parts.netloc.rpartition("@")[2]
        self.prefix = "" if self.unix else parts.path.rstrip("/")
        self._lock = threading.Lock()  # guards what follows
        self._idle: List[Tuple[float, _Stream]] = []
        self._active: Set[_Stream] = set()
        self._closed = False

    async def connect(self, timeout: float) -> _Stream:
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        raise NotImplementedError

    def lock(self) -> Any:
        """What `async with` takes."""
        raise NotImplementedError

    waits = True  # False: there is nothing to wait for, it is there or never comes

    # connections

    def _take_idle(self) -> Optional[_Stream]:
        stale: List[_Stream] = []
        with self._lock:
            if self._closed:
                raise Unreachable("it is closed")
            found = None
            while self._idle and found is None:
                since, stream = self._idle.pop()
                if time.monotonic() - since < 15 and stream.is_usable():
                    found = stream
                    self._active.add(stream)
                else:
                    stale.append(stream)
        for stream in stale:
            stream.close()
        return found

    async def _open(self, timeout: float) -> _Stream:
        stream = await self.connect(timeout)
        with self._lock:
            if not self._closed:
                self._active.add(stream)
                return stream
        stream.close()
        raise Unreachable("it is closed")

    def _drop(self, stream: _Stream) -> None:
        with self._lock:
            self._active.discard(stream)
        stream.close()

    def _keep(self, stream: _Stream) -> None:
        with self._lock:
            self._active.discard(stream)
            if not self._closed:
                self._idle.append((time.monotonic(), stream))
                return
        stream.close()

    def close(self) -> None:
        """Requests that are under way hear no more than what is on its way."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            active = list(self._active)
        for _, stream in idle:
            stream.close()
        for stream in active:
            stream.hang_up()

    # requests

    def _head(self, method: str, path: str, body: Optional[_Body], headers: Dict[str, str]) -> bytes:
        lines = ["%s %s%s HTTP/1.1" % (method, self.prefix, path), "Host: " + self.host,
                 "User-Agent: errand.py/" + __version__]
        if body is not None:
            lines += ["Content-Type: " + body.type, "Content-Length: %d" % len(body.data)]
        elif method != "GET":
            lines.append("Content-Length: 0")
        if self.token and not path.startswith("/leases/"):  # there the token in the path is the permission
            lines.append("Authorization: Bearer " + self.token)
        lines += ["%s: %s" % header for header in headers.items()]
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a line break in a header")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @staticmethod
    async def _read_head(stream: _Stream, may_continue: bool = False) -> Tuple[int, Dict[str, str]]:
        while True:
            line = await stream.line()
            if not line:
                raise _Gone("the server hung up")
            match = re.match(rb"HTTP/1\.[01] ([0-9]{3})", line)
            if not match:
                raise OSError("that is not HTTP: %r" % line[:100])
            headers: Dict[str, str] = {}
            while True:
                line = await stream.line()
                if not line.endswith(b"\n"):
                    raise OSError("the answer ends early")
                if not line.strip():
                    break
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            status = int(match.group(1))
            if status >= 200 or (may_continue and status == 100):
                return status, headers

    async def _exchange(self, method: str, path: str, body: Optional[_Body], headers: Dict[str, str],
                        timeout: float) -> Tuple[_Stream, int, Dict[str, str]]:
        """A kept connection may have been closed by the other side meanwhile: then once more, on a new one."""
        data = body.data if body else b""
        asks_first = len(data) > _ASKS_FIRST
        request = self._head(method, path, body, dict(headers, Expect="100-continue") if asks_first else headers)
        stream = self._take_idle()
        while True:
            kept = stream is not None
            try:
                if stream is None:
                    stream = await self._open(min(timeout, 10.0))
                stream.set_timeout(timeout)
                await stream.write(request if asks_first else request + data)
                status, answered = await self._read_head(stream, asks_first)
                if status == 100:
                    await stream.write(data)
                    status, answered = await self._read_head(stream)
                return stream, status, answered
            except BaseException as error:
                if stream is not None:
                    self._drop(stream)
                stream = None
                if kept and isinstance(error, (_Gone, ConnectionError)):
                    continue
                self._translate(error)

    def _translate(self, error: BaseException) -> NoReturn:
        if isinstance(error, (OSError, EOFError, ValueError, asyncio.TimeoutError)) and not isinstance(error, Unreachable):
            raise Unreachable("%s: %s" % (self.url, error or type(error).__name__)) from error
        raise error

    @staticmethod
    async def _pieces(stream: _Stream, headers: Dict[str, str]) -> AsyncIterator[bytes]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int((await stream.line()).partition(b";")[0].strip() or b"x", 16)
                if size:
                    yield await stream.exactly(size)
                await stream.line()
                if not size:
                    return
        elif "content-length" in headers:
            yield await stream.exactly(int(headers["content-length"]))
        else:
            headers["connection"] = "close"
            while True:
                piece = await stream.some()
                if not piece:
                    return
                yield piece

    async def ask(self, method: str, path: str, body: Optional[_Body] = None, headers: Optional[Dict[str, str]] = None,
                  timeout: float = _PATIENCE) -> _Answer:
        """Unreachable, if there is no answer."""
        stream, status, answered = await self._exchange(method, path, body, headers or {}, timeout)
        data: List[bytes] = []
        try:
            if status not in (204, 304):
                async for piece in self._pieces(stream, answered):
                    data.append(piece)
        except BaseException as error:
            self._drop(stream)
            self._translate(error)
        if answered.get("connection", "").lower() == "close":
            self._drop(stream)
        else:
            self._keep(stream)
        return _Answer(status, answered, b"".join(data))

    async def lines(self, path: str) -> AsyncIterator[Any]:
        """The values of a stream of lines, until it ends; Unreachable, if it breaks."""
        stream, status, answered = await self._exchange("GET", path, None, {"Accept": "application/x-ndjson"}, 60.0)
        try:
            if status != 200:
                text = b"".join([piece async for piece in self._pieces(stream, answered)])
                raise Problem(status, _Answer(status, answered, text).value())
            rest = b""
            async for piece in self._pieces(stream, answered):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except (ValueError, OSError, EOFError, asyncio.TimeoutError) as error:
            self._translate(error)
        finally:
            self._drop(stream)

    async def events(self, path: str, headers: Dict[str, str]) -> AsyncIterator[Tuple[str, str, str]]:
        """(event, id, data) of an event stream, until it ends; Unreachable, if it breaks."""
        headers = dict(headers, Accept="text/event-stream")
        stream, status, answered = await self._exchange("GET", path, None, headers, 60.0)
        try:
            if status != 200:
                text = b"".join([piece async for piece in self._pieces(stream, answered)])
                raise Problem(status, _Answer(status, answered, text).value())
            rest, event = b"", {"event": "message", "id": "", "data": ""}
            async for piece in self._pieces(stream, answered):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    name, _, value = line.decode().rstrip("\r").partition(":")
                    if name:
                        event[name] = value[1:] if value.startswith(" ") else value
                    elif not line.strip():
                        if event["data"]:
                            yield event["event"], event["id"], event["data"]
                        event = {"event": "message", "id": "", "data": ""}
        except (ValueError, OSError, EOFError, asyncio.TimeoutError) as error:
            self._translate(error)
        finally:
            self._drop(stream)


class _ThreadLock:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: Any) -> None:
        self._lock.release()


class _BlockingHttp(_Http):
    async def connect(self, timeout: float) -> _Stream:
        if self.unix:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout)
            try:
                connection.connect(self.unix)
            except BaseException:
                connection.close()
                raise
        else:
            connection = socket.create_connection((self.name, self.port), timeout)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_hostname=self.name)
        return _BlockingStream(connection)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def lock(self) -> Any:
        return _ThreadLock()


class _AsyncHttp(_Http):
    async def connect(self, timeout: float) -> _Stream:
        opened = (asyncio.open_unix_connection(self.unix) if self.unix else
                  asyncio.open_connection(self.name, self.port, ssl=self.tls))
        return _AsyncStream(*await asyncio.wait_for(opened, timeout))

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def lock(self) -> Any:
        return asyncio.Lock()


def _is_passing(status: int, value: Any) -> bool:
    """The same again may be answered otherwise."""
    return status in (408, 502, 503, 504) or (status == 429 and Problem(status, value).type == "too-many-streams")


class _Backoff:
    def __init__(self) -> None:
        self.seconds = 0.05

    def is_new(self) -> bool:
        return self.seconds == 0.05

    def next(self, at_least: float = 0.0) -> float:
        self.seconds = min(self.seconds * 2, 5.0)
        return max(self.seconds * random.uniform(0.7, 1.0), min(at_least, 30.0))


# --- tasks ---------------------------------------------------------------------------------------

_tasks: Dict[str, Callable[..., Any]] = {}
_starts: List[Callable[[Any], Any]] = []
_stops: List[Callable[[Any], Any]] = []


@overload
def task(function: _F) -> _F: ...
@overload
def task(function: Optional[str] = None, *, name: Optional[str] = None) -> Callable[[_F], _F]: ...
def task(function: Any = None, *, name: Optional[str] = None) -> Any:
    """@task, or @task("name"): a function or a coroutine that runs the task of its name. It can be called as before."""
    if isinstance(function, str):
        function, name = None, function

    def register(body: _F) -> _F:
        known = name or body.__name__
        if known in _tasks and _place(_tasks[known]) != _place(body):
            raise ValueError("there are two tasks %r" % known)
        _tasks[known] = body
        return body

    return register(function) if function is not None else register


def _place(function: Callable[..., Any]) -> Tuple[Any, Any]:
    return getattr(function, "__module__", None), getattr(function, "__qualname__", None)


def on_start(hook: _F) -> _F:
    """@on_start: called with the worker's context before anything runs: `def opens(context): context.db = connect()`."""
    _starts.append(hook)
    return hook


def on_stop(hook: _F) -> _F:
    """@on_stop: called with the context when the worker ends, the last first."""
    _stops.append(hook)
    return hook


class Context:
    """What the hooks of a worker put into it; `current().context` in its turns."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError("the context has no %r: set it in a function with @on_start" % name)


def _task_name(task: Union[str, Callable[..., Any]]) -> str:
    if isinstance(task, str):
        return task
    for name, function in _tasks.items():
        if function is task:
            return name
    raise ValueError("%r is no task: it has no @task" % (task,))


# --- submissions ---------------------------------------------------------------------------------


class Options(TypedDict, total=False):
    """Of a submission. What a newer server knows beyond these may be given, too."""

    args: Any  # the arguments as they are, in place of positional ones
    priority: int
    run_at: datetime.datetime
    delay: Duration
    expires_in: Duration
    deadline: When
    timeout: Duration
    max_retries: int
    retention: Duration
    labels: Dict[str, str]
    key: str
    hold: bool  # a promise: it runs when it is released,
    release_by: Duration  # and is cancelled if that has not been done by then
    after: Any  # handles or ids: it runs when those have ended,
    after_policy: str  # "success" (all of them), "any", or "failure" (one of them at least)
    group: Any  # an open group, or its id: it is one more member
    callback: str  # a URL that is told of its end
    step: str  # of a child
    detached: bool  # of a child


def _id_of(given: Any) -> str:
    return given if isinstance(given, str) else given.id


def _ids_of(given: Any) -> List[str]:
    return [_id_of(one) for one in ([given] if isinstance(given, str) or hasattr(given, "id") else given)]


_SAID_AS: Dict[str, Callable[[Any], Any]] = {
    "run_at": _when, "deadline": _when, "delay": _duration, "expires_in": _duration, "timeout": _duration,
    "retention": _duration, "release_by": _duration, "after": _ids_of, "group": _id_of}  # fmt: skip


def _submission(task: Union[str, Callable[..., Any]], args: Sequence[Any], options: Dict[str, Any]) -> Dict[str, Any]:
    """submit("f", 1, 2) calls f(1, 2), submit("f", {"x": 1}) calls f(x=1)."""
    said: Dict[str, Any] = {"task": _task_name(task)}
    if args and "args" in options:
        raise TypeError("arguments are given twice")
    if len(args) == 1 and isinstance(args[0], dict):
        said["args"] = args[0]
    elif args:
        said["args"] = list(args)
    for name, value in options.items():
        if value is not None or name == "args":
            said[name] = _SAID_AS[name](value) if name in _SAID_AS else value
    if "key" not in said and "step" not in said:
        said["key"] = secrets.token_hex(16)  # so that it may be sent again, and is there once
    return said


def _member_args(item: Any) -> Any:
    """As the arguments of a submission: a tuple is several, a dict names them, anything else is a single one."""
    return item if isinstance(item, dict) else list(_of_item(item))


def _group(task: Any, items: Optional[Iterable[Any]], invocations: Optional[Iterable[Dict[str, Any]]],
           options: Dict[str, Any]) -> Dict[str, Any]:
    if (items is None) == (invocations is None):
        raise TypeError("a group has a task and its items, or invocations")
    said: Dict[str, Any] = {name: _SAID_AS[name](value) if name in _SAID_AS else value
                            for name, value in options.items() if value is not None}
    if invocations is None:
        said.update(task=_task_name(task), args=[_member_args(item) for item in items or ()])
    else:
        said["invocations"] = [_member(one) for one in invocations]
    if "key" not in said and "step" not in said:
        said["key"] = secrets.token_hex(16)  # so that it may be sent again, and is there once
    return said


def _member(given: Dict[str, Any]) -> Dict[str, Any]:
    said = {name: _SAID_AS[name](value) if name in _SAID_AS and name != "after" else value
            for name, value in given.items() if value is not None or name == "args"}
    said["task"] = _task_name(given["task"])
    if given.get("after") is not None:  # names of members, ids and handles
        said["after"] = _ids_of(given["after"])
    return said


def _parts(items: Iterable[Any]) -> Iterator[List[Any]]:
    """So many items as one group may have."""
    part: List[Any] = []
    size = 0
    for item in items:
        length = len(_json(_member_args(item), "the arguments"))
        if part and (len(part) == _MEMBERS_AT_ONCE or size + length > _GROUP_BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += length + 1
    if part:
        yield part


def _of_item(item: Any) -> Tuple[Any, ...]:
    return item if isinstance(item, tuple) else (item,)


def _batches(submissions: Iterable[Dict[str, Any]]) -> Iterator[List[bytes]]:
    lines: List[bytes] = []
    size = 0
    for submission in submissions:
        line = _json(submission, "the submission")
        if lines and (len(lines) == _LINES_AT_ONCE or size + len(line) > _BYTES_AT_ONCE):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield lines


async def _submit_lines(lines: List[bytes], post: Callable[[_Body], Awaitable[Any]], pause: Callable[[float], Awaitable[None]]
                        ) -> List[str]:
    """The ids, in order. A line that was not stored is sent again; one that is refused is raised, when all are sent."""
    ids: Dict[int, str] = {}
    refused: Optional[Problem] = None
    left, backoff = list(range(len(lines))), _Backoff()
    while left:
        answers = await post(_Body(b"\n".join(lines[index] for index in left) + b"\n", "application/x-ndjson"))
        again = []
        for answer in answers:
            index = left[answer["index"]]
            if "id" in answer:
                ids[index] = answer["id"]
            elif _is_passing(answer["status"], answer["problem"]):
                again.append(index)
            else:
                refused = refused or Problem(answer["status"], answer["problem"])
        answered = {left[answer["index"]] for answer in answers}
        left = sorted(again + [index for index in left if index not in answered])
        if left:
            await pause(backoff.next())
    if refused:
        raise refused
    return [ids[index] for index in range(len(lines))]


# --- what is told --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Message:
    seq: int
    body: Any
    invocation: Optional[str] = None
    at: Optional[str] = None
    kind: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an invocation that was waited for stands."""

    id: str
    step: Optional[str]
    status: Optional[str]  # None: it is gone
    result: Any
    error: Optional[Dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Woken:
    """What woke a turn: `by` is "ids", "inbox" or "until"; `messages` are all that are unread, whatever it was."""

    by: str
    results: List[Outcome]
    messages: List[Message]


def _message(row: Dict[str, Any]) -> Message:
    return Message(row["seq"], row["body"], row.get("invocation"), row.get("at"), row.get("kind"))


def _woken(row: Optional[Dict[str, Any]]) -> Optional[Woken]:
    if row is None:
        return None
    results = [Outcome(one["id"], one["step"], one["status"], one["result"], one["error"]) for one in row["results"]]
    return Woken(row["by"], results, [_message(one) for one in row["messages"]])


class _Waitable:
    """An invocation that was submitted. What is known of its end is kept."""

    def __init__(self, owner: Any, id: str, task: str = "", step: Optional[str] = None) -> None:
        self._owner, self.id, self.task, self.step = owner, id, task, step
        self.index: Optional[int] = None  # in the group whose results() gave it
        self.name: Optional[str] = None
        self._end: Optional[Dict[str, Any]] = None

    def __repr__(self) -> str:
        return "<%s %s of %s%s>" % (type(self).__name__, self.id, self.task or "?",
                                    ", " + self._end["status"] if self._end and self._end["status"] else "")

    def _result(self) -> Any:
        assert self._end is not None
        if self._end["status"] == "succeeded":
            return self._end["result"]
        raise TaskFailed(self.id, self.task, self._end["status"] or "deleted", self._end["error"])

    def _outcome(self, return_exceptions: bool) -> Any:
        try:
            return self._result()
        except TaskFailed as error:
            if return_exceptions:
                return error
            raise


def _answer_of(given: Any, handles: Sequence[_Waitable], mode: str, return_exceptions: bool) -> Any:
    """What wait() gives: a result, the results in order, or (any) those that have ended."""
    if mode == "any":
        return [handle for handle in handles if handle._end]
    results = [handle._outcome(return_exceptions) for handle in handles]
    return results[0] if isinstance(given, (_Waitable, str)) else results


# --- a turn --------------------------------------------------------------------------------------


class _Suspended:
    def __repr__(self) -> str:
        return "<suspended>"


_SUSPENDED = _Suspended()


class _HttpTurn:
    """A turn's transport: every word goes to its own address. Another one has the same members."""

    def __init__(self, http: Any, address: str) -> None:
        self._http, self._address = http, address
        self.waits = http.waits
        self.pause, self.lock = http.pause, http.lock

    async def say(self, method: str, word: str, body: Optional[_Body] = None, timeout: float = _PATIENCE) -> _Answer:
        """`word` is "heartbeat", "steps/charge", "inbox?after=7", or "" for the lease itself."""
        return await self._http.ask(method, self._address + ("/" + word if word else ""), body, timeout=timeout)


class _Turn:
    """What both kinds of turn are made of."""

    _handle: Any

    def __init__(self, transport: Any, lease: Dict[str, Any], context: Any = None) -> None:
        self._transport = transport
        self.invocation: Dict[str, Any] = lease["invocation"]
        self.id: str = self.invocation["id"]
        self.task: str = self.invocation["task"]
        self.args: Any = self.invocation.get("args")
        self.attempt: int = self.invocation["attempt"]
        self.state: Any = lease["state"]
        self.woken: Any = _woken(lease["woken"])  # a Woken or None; Any, so that `me.woken.messages` needs no cast
        self.steps: Dict[str, Any] = dict(lease["steps"])
        self.context: Any = context if context is not None else Context()
        self._cancelled = threading.Event()
        self._lost = self._suspended = self._ended = False
        self._waiting: Any = None  # a turn waits for one thing at a time
        self._in_wait = False
        self._places: Optional[_Places] = None
        self._has_place = False
        self._seen = max([message.seq for message in self.woken.messages], default=0) if self.woken else 0
        self._began, self._waited = time.monotonic(), 0.0
        self._on_cancel: Callable[[], None] = lambda: None
        self._news: Callable[[], None] = self._tell_at_once
        self._tell_lock = threading.Lock()  # held while its log is sent, so that it stays in order
        self._out_lock = threading.Lock()  # guards what follows
        self._out: Deque[Tuple[str, str]] = collections.deque()
        self._out_size = 0
        self._progress: Optional[Dict[str, Any]] = None

    # what needs nobody

    def cancelled(self) -> bool:
        """It is to stop: its invocation is cancelled, or its lease is lost."""
        return self._cancelled.is_set()

    def time_left(self) -> Optional[float]:
        """Seconds until this turn times out or its deadline comes; None: it has as long as it takes. Waits are left out
        of the timeout."""
        left = []
        if self.invocation.get("timeout"):
            left.append(_seconds(self.invocation["timeout"]) - (time.monotonic() - self._began - self._waited))
        if self.invocation.get("deadline"):
            deadline = datetime.datetime.fromisoformat(self.invocation["deadline"].replace("Z", "+00:00"))
            left.append((deadline - datetime.datetime.now(datetime.timezone.utc)).total_seconds())
        return max(min(left), 0.0) if left else None

    def log(self, text: str) -> None:
        """A line of the invocation's log."""
        self._print("stdout", str(text) + "\n")

    def progress(self, value: float, note: Optional[str] = None) -> None:
        """How far it is. Sent a few times a second; the last one counts."""
        json.dumps(value, allow_nan=False)
        with self._out_lock:
            self._progress = {"value": value, "note": _clean(note) if note is not None else None}
        self._news()

    def _print(self, stream: str, text: str) -> None:
        with self._out_lock:
            if self._out and self._out[-1][0] == stream and len(self._out[-1][1]) < 8192:
                before = self._out.pop()[1]
                self._out_size -= len(before)
                text = before + text
            self._out.append((stream, text))
            self._out_size += len(text)
            while len(self._out) > 1 and self._out_size > 4 << 20:  # nobody takes it
                self._out_size -= len(self._out.popleft()[1])
        self._news()

    def _take_out(self) -> List[Tuple[str, str]]:
        with self._out_lock:
            out, self._out_size = list(self._out), 0
            self._out.clear()
            return out

    def _take_progress(self) -> Optional[Dict[str, Any]]:
        with self._out_lock:
            progress, self._progress = self._progress, None
            return progress

    def _tell_at_once(self) -> None:
        """Of a turn that nobody keeps: a command's own process."""
        for stream, text in self._take_out():
            (sys.stderr if stream == "stderr" else sys.stdout).write(text)
        progress = self._take_progress()
        if progress:
            _drive(self._say("POST", "heartbeat", _Body(_json({"progress": progress}))))

    def _cancel(self) -> None:
        if not self._cancelled.is_set():
            self._cancelled.set()
            self._on_cancel()

    def _lose(self) -> None:
        self._lost = True
        self._cancel()

    def _is_over(self) -> bool:
        return self._lost or self._suspended

    def _raise_if_cancelled(self) -> None:
        if self._lost:
            raise LeaseLost("this turn is somebody else's by now")
        if self._cancelled.is_set():
            raise Cancelled("%s is cancelled" % self.id)

    # its place among those that run

    def _give_place(self) -> None:
        if self._places is not None and self._has_place:
            self._has_place = False
            self._places.give()

    async def _take_place(self) -> None:
        if self._places is not None and not self._has_place:
            taken = self._places.take(False)
            if isinstance(self, Turn):
                taken.result()
            else:
                await asyncio.wrap_future(taken)
            self._has_place = True

    # what is said

    async def _say(self, method: str, word: str, body: Optional[_Body] = None, timeout: float = _PATIENCE) -> _Answer:
        """Says it until there is an answer: a server that is away comes back, and leases outlive it."""
        backoff = _Backoff()
        while True:
            if self._suspended:
                raise ErrandError("the turn has suspended: return")
            if self._lost:
                raise LeaseLost("this turn is somebody else's by now")
            try:
                answer = await self._transport.say(method, word, body, timeout)
                value = answer.value() if answer.status >= 400 else None
            except Unreachable:
                answer, value = _Answer(503, {}, b""), None
            if _is_passing(answer.status, value):
                await self._transport.pause(backoff.next(answer.retry_after()))
                continue
            if answer.status >= 400:
                self._raise(Problem(answer.status, value))
            return answer

    def _raise(self, problem: Problem) -> NoReturn:
        if problem.status == 409 and problem.type == "stale-lease":
            self._lose()
            raise LeaseLost("this turn is somebody else's by now")
        if problem.status == 409 and problem.type == "cancelled":
            self._cancel()
            raise Cancelled("%s is cancelled" % self.id)
        raise problem

    async def _message(self, body: Any) -> int:
        return (await self._say("POST", "messages", _Body(_json(body, "the message")))).value()["seq"]

    async def _inbox(self, wait: Duration) -> List[Message]:
        until = time.monotonic() + _seconds(wait)
        while True:
            left = max(until - time.monotonic(), 0.0)
            if left:
                self._raise_if_cancelled()
                self._give_place()
            word = "inbox?after=%d&wait=%dms" % (self._seen, min(left, 5.0) * 1000)
            items = (await self._say("GET", word)).value()["items"]
            if items:
                self._seen = items[-1]["seq"]
            if items or not left or not self._transport.waits:
                await self._take_place()
                return [_message(item) for item in items]

    async def _sleep(self, duration: Duration) -> None:
        self._raise_if_cancelled()
        if not self._transport.waits:
            return
        if isinstance(self, Turn):
            self._cancelled.wait(_seconds(duration))
        else:
            await self._transport.pause(_seconds(duration))
        self._raise_if_cancelled()

    async def _step(self, name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]) -> Any:
        if name in self.steps:
            return self.steps[name]
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            if isinstance(self, Turn):
                getattr(value, "close", lambda: None)()
                raise TypeError("step %r is a coroutine, and its task is none: make that `async def`" % name)
            value = await value
        body = _Body(_json({"value": value}, "the value of step %r" % name))
        answer = await self._say("PUT", "steps/" + urllib.parse.quote(name, safe=""), body)
        self.steps[name] = answer.value()["value"]
        return self.steps[name]

    async def _suspend(self, ids: Any, mode: str, inbox: bool, until: Optional[When], state: Any) -> Any:
        on: Dict[str, Any] = {}
        if ids is not None:
            on.update(ids=[handle.id for handle in self._handles(ids)], mode=mode)
        if inbox:
            on["inbox"] = True
        if until is not None:
            on["until"] = _when(until)
        if not on:
            raise TypeError("suspend() needs ids, inbox=True or until: who is to wake it?")
        await self._say("POST", "suspend", _Body(_json({"on": on, "state": state}, "the state")))
        self._suspended = True
        return _SUSPENDED

    async def _submit(self, task: Any, args: Sequence[Any], options: Dict[str, Any]) -> Any:
        said = _submission(task, args, options)
        answer = await self._say("POST", "children", _Body(_json(said, "the submission")))
        return self._handle(self, answer.value()["id"], said["task"], said.get("step"))

    async def _submit_all(self, task: Any, items: Iterable[Any], options: Dict[str, Any]) -> List[Any]:
        step = options.pop("step", None)
        handles: List[Any] = []
        said = (_submission(task, _of_item(item), dict(options, step="%s/%d" % (step, index)) if step else options)
                for index, item in enumerate(items))
        for lines in _batches(said):
            for id in await _submit_lines(lines, self._post_children, self._transport.pause):
                handles.append(self._handle(self, id, _task_name(task), "%s/%d" % (step, len(handles)) if step else None))
        return handles

    async def _group(self, task: Any, items: Any, invocations: Any, options: Dict[str, Any]) -> Any:
        if not self._transport.waits:
            raise ErrandError("there are no groups inline")
        said = _group(task, items, invocations, options)
        answer = await self._say("POST", "groups", _Body(_json(said, "the group")), timeout=120.0)
        return self._handle(self, answer.value()["id"], said.get("task", ""), said.get("step"))

    async def _post_children(self, body: _Body) -> Any:
        return (await self._say("POST", "children", body, timeout=120.0)).value()

    def _handles(self, given: Any) -> List[Any]:
        """Of one or many handles or ids."""
        given = [given] if isinstance(given, (_Waitable, str)) else list(given)
        return [self._handle(self, one) if isinstance(one, str) else one for one in given]

    # what waits

    async def _wait(self, handles: Sequence[_Waitable], mode: str, timeout: Optional[Duration]) -> None:
        """Until all of them have ended, or one; TimeoutError."""
        if mode not in ("all", "any"):
            raise ValueError("mode is \"all\" or \"any\"")
        until = None if timeout is None else time.monotonic() + _seconds(timeout)
        while True:
            open_ones: Dict[str, List[_Waitable]] = {}
            for handle in handles:
                if not handle._end:
                    open_ones.setdefault(handle.id, []).append(handle)
            if not open_ones or (mode == "any" and any(handle._end for handle in handles)):
                return
            began = time.monotonic()
            rows = await self._wait_for(list(open_ones)[:_IDS_AT_ONCE], mode, until)
            self._waited += time.monotonic() - began
            for row in rows:
                if row["status"] is None or row["status"] in _FINAL:
                    end = await self._whole(row) if row.get("left_out") else row
                    for handle in open_ones[row["id"]]:
                        handle._end = end

    async def _wait_for(self, ids: List[str], mode: str, until: Optional[float]) -> List[Dict[str, Any]]:
        self._waiting = self._waiting or self._transport.lock()
        async with self._waiting:
            self._in_wait = True
            self._give_place()
            try:
                while True:
                    self._raise_if_cancelled()
                    said: Dict[str, Any] = {"on": {"ids": ids, "mode": mode}, "wait": _duration(_LONGEST_WAIT)}
                    if until is not None:
                        said["timeout"] = _duration(max(until - time.monotonic(), 0.0))
                    answer = await self._say("POST", "wait", _Body(_json(said)), _LONGEST_WAIT + _PATIENCE)
                    value = answer.value()
                    if value["cancel"]:
                        self._cancel()
                        self._raise_if_cancelled()
                    if answer.status == 200:
                        await self._take_place()
                        if value["timed_out"]:
                            raise TimeoutError("they have not ended in time")
                        return value["results"]
            finally:
                self._in_wait = False

    async def _whole(self, row: Dict[str, Any]) -> Dict[str, Any]:
        """Of one whose result had no room in the answer."""
        answer = (await self._say("POST", "wait", _Body(_json({"on": {"ids": [row["id"]]}})))).value()["results"][0]
        return await self._transport_get(answer["id"]) if answer.get("left_out") else answer

    async def _transport_get(self, id: str) -> Dict[str, Any]:
        http = getattr(self._transport, "_http", None)
        answer = await http.ask("GET", "/invocations/" + id) if http else _Answer(503, {}, b"")
        if answer.status == 200:
            return answer.value()
        raise ErrandError("the result of %s is larger than 1 MiB, which a turn is not told; a token that may `read` "
                          "would have it (%d)" % (id, answer.status))

    async def _as_completed(self, handles: List[Any], timeout: Optional[Duration]) -> AsyncIterator[Any]:
        until = None if timeout is None else time.monotonic() + _seconds(timeout)
        while handles:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            await self._wait(handles, "any", left)
            for handle in [handle for handle in handles if handle._end]:
                yield handle
            handles = [handle for handle in handles if not handle._end]


class Child(_Waitable):
    """A child that a turn has submitted."""

    def wait(self, timeout: Optional[Duration] = None) -> Any:
        """Its result; TaskFailed."""
        return self._owner.wait(self, timeout=timeout)


class AsyncChild(_Waitable):
    async def wait(self, timeout: Optional[Duration] = None) -> Any:
        """Its result; TaskFailed."""
        return await self._owner.wait(self, timeout=timeout)


Handles = Union[_Waitable, str, Iterable[Union[_Waitable, str]]]


class Turn(_Turn):
    """What a function has in `current()`. What waits raises Cancelled when the invocation is cancelled; what is said is
    on disk when it returns."""

    _handle = Child

    def submit(self, task: Union[str, Callable[..., Any]], *args: Any, **options: Unpack[Options]) -> Child:
        """A child. submit("f", 1, 2) calls f(1, 2), submit("f", {"x": 1}) calls f(x=1). With step="name" it is made once,
        and found again by every later turn and attempt."""
        return _drive(self._submit(task, args, dict(options)))

    def map(self, task: Union[str, Callable[..., Any]], items: Iterable[Any], *, return_exceptions: bool = False,
            timeout_of_all: Optional[Duration] = None, **options: Unpack[Options]) -> List[Any]:
        """A child for each item (a tuple is several arguments), submitted together; their results in order. With
        step="name" they are the steps name/0, name/1, ..."""
        children = _drive(self._submit_all(task, items, dict(options)))
        return self.wait(children, timeout=timeout_of_all, return_exceptions=return_exceptions)

    def group(self, task: Union[str, Callable[..., Any], None] = None, items: Optional[Iterable[Any]] = None, *,
              invocations: Optional[Iterable[Dict[str, Any]]] = None, **options: Any) -> Child:
        """Many children at once, all of them or none, as Client.group() has them: it is waited for as one is, its end is
        the group's, and its result is None. With step="name" it is made once."""
        return _drive(self._group(task, items, invocations, dict(options)))

    def wait(self, handles: Handles, mode: str = "all", timeout: Optional[Duration] = None, *,
             return_exceptions: bool = False) -> Any:
        """In place, without a slot. The result of one; the results of many, in order, or the first failure as TaskFailed
        (return_exceptions: in its place among the results). mode="any": the children that have ended, one at least."""
        found = self._handles(handles)
        _drive(self._wait(found, mode, timeout))
        return _answer_of(handles, found, mode, return_exceptions)

    def as_completed(self, handles: Handles, timeout: Optional[Duration] = None) -> Iterator[Child]:
        """The children as they end; their wait() answers at once."""
        return _each(self._as_completed(self._handles(handles), timeout))

    def step(self, name: str, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """What function(*args, **kwargs) gave when it was first called under this name, in whatever turn or attempt."""
        return _drive(self._step(name, function, args, kwargs))

    def sleep(self, duration: Duration) -> None:
        """Where it stands: for seconds. What is longer is for `suspend(until=...)`, which holds nothing."""
        _drive(self._sleep(duration))

    def suspend(self, *, ids: Optional[Handles] = None, mode: str = "all", inbox: bool = False,
                until: Optional[When] = None, state: Any = None) -> Any:
        """Ends the turn: `return me.suspend(...)`. The next one starts with `state` when the first of what it waits for
        is there: children (all, or any of them), a message, a time (a duration from now, or a datetime)."""
        return _drive(self._suspend(ids, mode, inbox, until, state))

    def message(self, body: Any) -> int:
        """Sends it out; its number."""
        return _drive(self._message(body))

    def inbox(self, wait: Duration = 0) -> List[Message]:
        """What was sent to it, and was not given to this turn before; waits so long if there is nothing."""
        return _drive(self._inbox(wait))


class AsyncTurn(_Turn):
    """What a coroutine has in `current()`: the same, to be awaited."""

    _handle = AsyncChild

    async def submit(self, task: Union[str, Callable[..., Any]], *args: Any, **options: Unpack[Options]) -> AsyncChild:
        return await self._submit(task, args, dict(options))

    async def map(self, task: Union[str, Callable[..., Any]], items: Iterable[Any], *, return_exceptions: bool = False,
                  timeout_of_all: Optional[Duration] = None, **options: Unpack[Options]) -> List[Any]:
        children = await self._submit_all(task, items, dict(options))
        return await self.wait(children, timeout=timeout_of_all, return_exceptions=return_exceptions)

    async def group(self, task: Union[str, Callable[..., Any], None] = None, items: Optional[Iterable[Any]] = None, *,
                    invocations: Optional[Iterable[Dict[str, Any]]] = None, **options: Any) -> AsyncChild:
        return await self._group(task, items, invocations, dict(options))

    async def wait(self, handles: Handles, mode: str = "all", timeout: Optional[Duration] = None, *,
                   return_exceptions: bool = False) -> Any:
        found = self._handles(handles)
        await self._wait(found, mode, timeout)
        return _answer_of(handles, found, mode, return_exceptions)

    def as_completed(self, handles: Handles, timeout: Optional[Duration] = None) -> AsyncIterator[AsyncChild]:
        return self._as_completed(self._handles(handles), timeout)

    async def step(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`function` may be a coroutine function."""
        return await self._step(name, function, args, kwargs)

    async def sleep(self, duration: Duration) -> None:
        await self._sleep(duration)

    async def suspend(self, *, ids: Optional[Handles] = None, mode: str = "all", inbox: bool = False,
                      until: Optional[When] = None, state: Any = None) -> Any:
        """`return await me.suspend(...)`."""
        return await self._suspend(ids, mode, inbox, until, state)

    async def message(self, body: Any) -> int:
        return await self._message(body)

    async def inbox(self, wait: Duration = 0) -> List[Message]:
        return await self._inbox(wait)


_current: contextvars.ContextVar[Optional[_Turn]] = contextvars.ContextVar("errand_turn", default=None)
_own_turn: List[Turn] = []


def current() -> Turn:
    """The turn that runs here (in a coroutine: an AsyncTurn). In a command's own process: that of ERRAND_LEASE_URL."""
    turn = _current.get() or _turn_of_command()
    if turn is None:
        raise ErrandError("no task runs here: current() is for its body, and for the threads that it tells its context")
    return turn  # type: ignore[return-value]


def current_async() -> AsyncTurn:
    """current(), as a type checker wants it in a coroutine."""
    turn = current()
    if not isinstance(turn, AsyncTurn):
        raise ErrandError("this task is no coroutine: use current()")
    return turn


def _turn_of_command() -> Optional[Turn]:
    url = os.environ.get("ERRAND_LEASE_URL")
    if not url:
        return None
    if not _own_turn:
        base, _, token = url.rpartition("/leases/")
        transport = _HttpTurn(_BlockingHttp(base), "/leases/" + token)
        answer = _drive(transport.say("GET", ""))
        if answer.status != 200:
            raise Problem(answer.status, answer.value())
        _own_turn.append(Turn(transport, answer.value()))
    return _own_turn[0]


# --- a body --------------------------------------------------------------------------------------


def _bind(function: Callable[..., Any], args: Any) -> Tuple[List[Any], Dict[str, Any]]:
    """An array is positional arguments, an object keywords, null none, anything else one argument."""
    positional, named = ([], {}) if args is None else (args, {}) if isinstance(args, list) else \
        ([], args) if isinstance(args, dict) else ([args], {})
    try:
        inspect.signature(function).bind(*positional, **named)
    except TypeError as error:
        raise _Refused(str(error)) from None
    except ValueError:  # it has no signature
        pass
    return positional, named


def _told(error: BaseException) -> Tuple[str, List[str], str]:
    """Type, types and message of an exception."""
    names = [one.__name__[:100] for one in type(error).__mro__ if one is not object][:50]
    return names[0], names, _clean(str(error))[:16000]


def _traceback(error: BaseException) -> str:
    """Without what is ours above the body's own lines."""
    lines = error.__traceback__
    while lines is not None and lines.tb_next is not None and lines.tb_frame.f_code.co_filename == __file__:
        lines = lines.tb_next
    return _cut_end(_clean("".join(traceback.format_exception(type(error), error, lines))), 16000)


def _failure(error: BaseException, turn: _Turn) -> Dict[str, Any]:
    if isinstance(error, _Refused):
        return {"type": "invalid_args", "message": _clean(str(error)), "retry": False}
    if isinstance(error, (Cancelled, asyncio.CancelledError)) and turn.cancelled():
        return {"type": "cancelled", "message": "its invocation was cancelled"}
    cause = error.__cause__ if isinstance(error, Retry) and error.__cause__ else error
    type_, types, message = _told(cause)
    said: Dict[str, Any] = {"type": type_, "message": message, "types": types, "traceback": _traceback(error)}
    if isinstance(error, BadResult):
        return {"type": "bad_result", "message": message}
    if isinstance(error, Fail):
        if cause is error:
            said["type"] = _clean(error.type).replace("\0", "")[:100] or "Fail"
        if error.retry is not None:
            said["retry"] = error.retry
        if error.after is not None:
            said["retry_after"] = _duration(error.after)
    return said


async def _perform(turn: _Turn, function: Callable[..., Any]) -> Optional[Tuple[str, bytes]]:
    """How it ended, to be said to the turn: ("complete", ...) or ("fail", ...); None: it is over already."""
    try:
        positional, named = _bind(function, turn.args)
        value = function(*positional, **named)
        if inspect.isawaitable(value) and isinstance(turn, AsyncTurn):
            value = await value
        if turn._is_over():
            return None
        return "complete", _json({"result": value}, "what %s gave" % turn.task)
    except KeyboardInterrupt:  # inline, at somebody's terminal
        raise
    except BaseException as error:
        if turn._is_over():
            if not isinstance(error, (Cancelled, asyncio.CancelledError)):
                _logger.warning("%s %s raised after its end", turn.task, turn.id, exc_info=True)
            return None
        return "fail", _json({"error": _failure(error, turn)})


class _Printed(io.TextIOBase):
    """sys.stdout or sys.stderr of a worker: what a body prints is its invocation's log, told apart by thread and task;
    what is nobody's goes where it went."""

    def __init__(self, stream: str, original: Any) -> None:
        self._stream, self._original = stream, original

    def write(self, text: str) -> int:
        turn = _current.get()
        if turn is None or turn._is_over() or turn._ended:
            return self._original.write(text)
        turn._print(self._stream, text)
        return len(text)

    def flush(self) -> None:
        self._original.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._original.fileno()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _catch_prints() -> None:
    for stream in ("stdout", "stderr"):
        if not isinstance(getattr(sys, stream), _Printed):
            setattr(sys, stream, _Printed(stream, getattr(sys, stream)))


class _Threads:
    """Daemons that are used again; as many as jobs run at once."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _free
        self._free = 0

    def run(self, job: Callable[[], None]) -> None:
        with self._lock:
            starts = self._free == 0
            self._free -= not starts
        self._jobs.put(job)
        if starts:
            threading.Thread(target=self._work, daemon=True, name="errand-body").start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except BaseException:
                _logger.exception("a fault in errand.py")
            with self._lock:
                self._free += 1


class _Places:
    """How many bodies run at once. Who waits in place gives its place up; who goes on takes one before who begins."""

    def __init__(self, count: int, changed: Callable[[], None]) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._free = count
        self._going_on: Deque[concurrent.futures.Future[None]] = collections.deque()
        self._beginning: Deque[concurrent.futures.Future[None]] = collections.deque()
        self._changed = changed

    def free(self) -> int:
        """Nobody waits while there is any."""
        with self._lock:
            return self._free

    def take(self, begins: bool) -> concurrent.futures.Future[None]:
        taken: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            if not self._free:
                (self._beginning if begins else self._going_on).append(taken)
                return taken
            self._free -= 1
        taken.set_result(None)
        return taken

    def give(self) -> None:
        next_one = None
        with self._lock:
            while next_one is None and (self._going_on or self._beginning):
                one = (self._going_on or self._beginning).popleft()
                next_one = one if one.set_running_or_notify_cancel() else None
            self._free += next_one is None
        if next_one is not None:
            next_one.set_result(None)
        self._changed()


class _Loop:
    """The thread of all coroutines; it begins with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, daemon=True, name="errand-loop").start()
            return self._loop

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.get()).result()


class _Bodies:
    """What a worker and a pool's child have in common: hooks, a context, bodies on threads and on the loop."""

    def __init__(self) -> None:
        self.context, self.threads, self.loop = Context(), _Threads(), _Loop()

    def _call(self, hook: Callable[[Any], Any]) -> None:
        if inspect.iscoroutinefunction(hook):
            self.loop.run(hook(self.context))
        else:
            hook(self.context)

    def start(self) -> None:
        for hook in _starts:
            self._call(hook)

    def stop(self) -> None:
        for hook in reversed(_stops):
            try:
                self._call(hook)
            except Exception:
                _logger.exception("an @on_stop hook failed")

    def begin(self, turn: _Turn, function: Callable[..., Any], done: Callable[[Optional[Tuple[str, bytes]]], None]) -> None:
        """Runs the body; `done` is called with its end, on a thread that may wait."""
        if isinstance(turn, AsyncTurn):
            asyncio.run_coroutine_threadsafe(self._await(turn, function, done), self.loop.get())
        else:
            self.threads.run(lambda: self._call_body(turn, function, done))

    @staticmethod
    def _call_body(turn: _Turn, function: Callable[..., Any], done: Callable[[Any], None]) -> None:
        mine = _current.set(turn)
        try:
            end = _drive(_perform(turn, function))
        finally:
            _current.reset(mine)
        done(end)

    async def _await(self, turn: _Turn, function: Callable[..., Any], done: Callable[[Any], None]) -> None:
        _current.set(turn)
        body = asyncio.ensure_future(_perform(turn, function))
        loop = asyncio.get_running_loop()
        turn._on_cancel = lambda: loop.call_soon_threadsafe(body.cancel)
        if turn.cancelled():
            body.cancel()
        try:
            end = await body
        except asyncio.CancelledError:  # before it began
            end = "fail", _json({"error": {"type": "cancelled", "message": "its invocation was cancelled"}})
        _current.set(None)
        self.threads.run(lambda: done(end))


def _is_coroutine(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None))


# --- a worker elsewhere --------------------------------------------------------------------------


class _Bell:
    """Wakes the main thread, out of a signal's handler too."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)

    def ring(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._writes, b"!")

    def wait(self, seconds: Optional[float]) -> None:
        if select.select([self._reads], [], [], seconds)[0]:
            os.read(self._reads, 1000)

    def close(self) -> None:
        os.close(self._reads)
        os.close(self._writes)


class Worker:
    """Leases turns of a server over HTTP and runs them. `run()` returns when it was told to stop.

    Threads: main waits for the end; one polls; one renews leases and tells logs and progress; bodies have theirs."""

    def __init__(self, url: Optional[str] = None, *, token: Optional[str] = None, name: Optional[str] = None,
                 tasks: Optional[Sequence[str]] = None, concurrency: int = 1, lease: Duration = "30s",
                 grace: Duration = "30s") -> None:
        url = url or os.environ.get("ERRAND_URL") or "http://127.0.0.1:8080"
        token = token or os.environ.get("ERRAND_TOKEN")
        self.name = name or "%s-%d" % (socket.gethostname()[:80].replace("/", "-"), os.getpid())
        self.tasks = list(tasks if tasks is not None else _tasks)
        for one in self.tasks:
            if one not in _tasks:
                raise ValueError("there is no task %r here, but %s" % (one, _known()))
        if not self.tasks:
            raise ValueError("there are no tasks: a function has @task")
        if concurrency < 1:
            raise ValueError("concurrency is 1 at least")
        self.url, self.concurrency = url, concurrency
        self._lease, self._grace = _seconds(lease), _seconds(grace)
        self._http, self._polls, self._async_http = _BlockingHttp(url, token), _BlockingHttp(url, token), _AsyncHttp(url, token)
        self._bodies = _Bodies()
        self._bell = _Bell()
        self._places = _Places(concurrency, self._changed)
        self._change = threading.Condition()  # guards what follows
        self._held: Dict[str, _Turn] = {}
        self._due: Dict[str, float] = {}  # when it is to be renewed
        self._closing = False
        self._stops = 0  # how often it was told to
        self._refused: Optional[str] = None  # at its first poll: it will not get better
        self._welcome = False
        self._polled = False  # the poller is through
        self._over = threading.Event()  # no report is tried again
        self._news = threading.Event()

    # its life

    def stop(self) -> None:
        """From any thread, or a signal's handler: asks for no more, and ends when what it holds has. A second time:
        ends at once."""
        self._stops += 1
        self._bell.ring()

    def run(self) -> int:
        """0, or 1 if the server does not want it."""
        self._bodies.start()
        poller = threading.Thread(target=self._poll, daemon=True, name="errand-poll")
        keeper = threading.Thread(target=self._keep, daemon=True, name="errand-keep")
        poller.start()
        keeper.start()
        _logger.info("%s asks %s for %s", self.name, self.url, ", ".join(self.tasks))
        while not self._stops and not self._polled:
            self._bell.wait(None)
        self._close(poller)
        keeper.join(1)
        self._bodies.stop()
        if self._refused:
            _logger.error("%s", self._refused)
        return 1 if self._refused else 0

    def _close(self, poller: threading.Thread) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._polls.close()
        poller.join(2)
        until = time.monotonic() + self._grace
        while self._holds() and self._stops < 2 and time.monotonic() < until:
            self._bell.wait(max(until - time.monotonic(), 0))
        for turn in self.held():
            _logger.warning("%s %s has not ended: its lease runs out, and it is run again", turn.task, turn.id)
        self._over.set()
        self._news.set()

    def _changed(self) -> None:
        with self._change:
            self._change.notify_all()

    def held(self) -> List[_Turn]:
        with self._change:
            return list(self._held.values())

    def _holds(self) -> bool:
        with self._change:
            return bool(self._held)

    # asking

    def _poll(self) -> None:
        try:
            self._poll_until_closing()
        except Exception:
            _logger.exception("a fault in errand.py")
            self._refused = "it asks for no more"
        finally:
            self._polled = True
            self._bell.ring()

    def _poll_until_closing(self) -> None:
        backoff, unheard = _Backoff(), False
        while True:
            with self._change:
                while not self._closing and not self._places.free():
                    self._change.wait()
                if self._closing:
                    return
            room = max(min(self._places.free(), 100), 1)
            began = time.monotonic()
            try:
                answer = self._ask(room)
            except Unreachable as error:
                if self._closing:
                    return
                if not unheard:
                    _logger.warning("the server does not answer; asking again: %s", error)
                unheard = True
                self._over.wait(backoff.next())
                continue
            if unheard:
                _logger.info("the server answers again")
                unheard = False
            if answer is None:
                if self._refused:
                    return
                self._over.wait(backoff.next(1.0))
            elif not self._take(answer) and time.monotonic() - began < 1:
                self._over.wait(backoff.next())  # it closes, or tells us to stop something
            else:
                backoff = _Backoff()

    def _ask(self, room: int) -> Optional[Dict[str, Any]]:
        said = {"worker": {"name": self.name, "host": socket.gethostname()[:200], "version": __version__,
                           "pid": os.getpid()},
                "tasks": self.tasks, "max": room, "wait": "20s", "lease": _duration(self._lease)}  # fmt: skip
        answer = _drive(self._polls.ask("POST", "/leases", _Body(_json(said)), timeout=20 + _PATIENCE))
        if answer.status == 200:
            self._welcome = True
            return answer.value()
        problem = Problem(answer.status, answer.value() if "json" in answer.headers.get("content-type", "") else None)
        if not self._welcome and not _is_passing(answer.status, answer.value()):
            self._refused = "%s: %s" % (self.url, problem)
        elif not _is_passing(answer.status, answer.value()):
            _logger.error("the server refuses to give work: %s", problem)
        return None

    def _take(self, answer: Dict[str, Any]) -> bool:
        """True: there was work."""
        for lease in answer["leases"]:
            self._begin(lease)
        for token in answer["cancel"]:
            with self._change:
                turn = self._held.get(token)
            if turn:
                turn._cancel()
        if answer["state"] == "stop" and not self._closing:
            _logger.info("the server says stop")
            with self._change:
                self._closing = True
            self._finish_all()
        return bool(answer["leases"])

    def _finish_all(self) -> None:
        """Told by the server: what runs may take its time."""
        with self._change:
            while self._held and not self._stops:
                self._change.wait(1)
        if not self._stops:
            self.stop()

    def _begin(self, lease: Dict[str, Any]) -> None:
        function = _tasks[lease["invocation"]["task"]]
        address = "/leases/" + lease["token"]
        if (lease["woken"] or {}).get("results_left_out"):
            with contextlib.suppress(Unreachable):
                answer = _drive(self._http.ask("GET", address + "/woken"))
                lease["woken"] = answer.value() if answer.status == 200 else lease["woken"]
        coroutine = _is_coroutine(function)
        transport = _HttpTurn(self._async_http if coroutine else self._http, address)
        turn = (AsyncTurn if coroutine else Turn)(transport, lease, self._bodies.context)
        turn._news = self._news.set
        with self._change:
            self._held[lease["token"]] = turn
            self._due[lease["token"]] = time.monotonic() + self._lease / 3
        self._news.set()
        self._places.take(True).add_done_callback(lambda _: self._begin_body(lease["token"], turn, function))

    def _begin_body(self, token: str, turn: _Turn, function: Callable[..., Any]) -> None:
        turn._places, turn._has_place = self._places, True
        self._bodies.begin(turn, function, lambda end: self._end(token, turn, end))

    # reporting

    def _end(self, token: str, turn: _Turn, end: Optional[Tuple[str, bytes]]) -> None:
        try:
            turn._ended = True
            if end is not None:
                self._tell_out(token, turn, True)
                self._report(token, turn, *end)
        finally:
            with self._change:
                self._held.pop(token, None)
                self._due.pop(token, None)
            turn._give_place()
            self._changed()
            self._bell.ring()

    def _report(self, token: str, turn: _Turn, word: str, data: bytes) -> None:
        answer = self._insist("POST", token, word, _Body(data))
        if answer is None or answer.status < 300:
            return
        if answer.status == 409:
            turn._lose()
            _logger.warning("the lease of %s %s was lost: what it gave does not count", turn.task, turn.id)
        elif word == "complete":
            detail = str(Problem(answer.status, answer.value()))
            self._report(token, turn, "fail", _json({"error": {"type": "bad_result", "message": detail}}))
        else:
            _logger.error("the end of %s %s is refused: %s", turn.task, turn.id, Problem(answer.status, answer.value()))

    def _insist(self, method: str, token: str, word: str, body: _Body) -> Optional[_Answer]:
        """Until there is an answer: leases outlive a server that is away. None: we end."""
        backoff = _Backoff()
        while True:
            at_least = 0.0
            try:
                answer = _drive(self._http.ask(method, "/leases/%s/%s" % (token, word), body))
                if not _is_passing(answer.status, answer.value()):
                    return answer
                at_least = answer.retry_after()
            except Unreachable as error:
                if backoff.is_new():
                    _logger.warning("the server does not answer; saying %s again: %s", word, error)
            if self._over.wait(backoff.next(at_least)):
                return None

    def _tell_out(self, token: str, turn: _Turn, insists: bool) -> None:
        """What it has printed, and, at its end, how far it was."""
        with turn._tell_lock:  # what is printed first is told first
            for stream, text in turn._take_out():
                body = _Body(text.encode("utf-8", "backslashreplace"), "text/plain")
                answer = self._insist("POST", token, "log?stream=" + stream, body)
                if answer is None or answer.status == 409:
                    return
            progress = turn._take_progress() if insists else None
            if progress:
                self._insist("POST", token, "heartbeat", _Body(_json({"progress": progress})))

    # renewing

    def _keep(self) -> None:
        while not self._over.is_set():
            now = time.monotonic()
            with self._change:
                held = list(self._held.items())
                due = {token for token, _ in held if self._due[token] <= now}
            try:
                for token, turn in held:
                    if not self._renew(token, turn, token in due):
                        break
            except Exception:  # what is held is still to be renewed
                _logger.exception("a fault in errand.py")
                self._over.wait(1)
            with self._change:
                next_due = min(self._due.values(), default=now + 60)
            if self._news.wait(max(next_due - time.monotonic(), 0.05)):
                self._over.wait(0.2)  # more of it may come
            self._news.clear()

    def _renew(self, token: str, turn: _Turn, due: bool) -> bool:
        """False: the server is away, and the others need not be tried."""
        progress = turn._take_progress()
        if turn._out:
            self._bodies.threads.run(lambda: self._tell_out(token, turn, False))
        if not progress and not (due and not turn._in_wait and not turn.cancelled()):
            self._renew_next(token, due, self._lease / 3)
            return True
        body = _Body(_json({"progress": progress} if progress else {}))
        try:
            answer = _drive(self._http.ask("POST", "/leases/%s/heartbeat" % token, body, timeout=max(self._lease / 3, 2)))
        except Unreachable:
            answer = None
        if answer is None or _is_passing(answer.status, None):
            if progress:
                with turn._out_lock:
                    turn._progress = turn._progress or progress
            self._renew_next(token, True, min(self._lease / 6, 1.0))
            return False
        self._renew_next(token, True, self._lease / 3)
        if answer.status == 409:
            turn._lose()
        elif answer.status == 200 and answer.value()["cancel"]:
            turn._cancel()
        return True

    def _renew_next(self, token: str, moves: bool, seconds: float) -> None:
        with self._change:
            if moves and token in self._due:
                self._due[token] = time.monotonic() + seconds


# --- a pool's child ------------------------------------------------------------------------------


class _Pipe:
    """The socket that ERRAND_FD names: JSON lines, as PROTOCOL.md has them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._lines = connection, connection.makefile("rb")
        self.longest = 16 << 20
        self._lock = threading.Lock()  # guards what follows
        self._seq = 0
        self._asked: Dict[int, concurrent.futures.Future[Dict[str, Any]]] = {}

    def read(self) -> Optional[Dict[str, Any]]:
        """None: the server is gone, or does not want us any more."""
        while True:
            try:
                line = self._lines.readline()
            except OSError:
                return None
            if not line.endswith(b"\n"):
                return None
            if line.strip():
                return json.loads(line)

    def say(self, type: str, members: Dict[str, Any]) -> None:
        self._write(_json(dict(members, type=type)))

    def say_json(self, type: str, run: int, members: bytes) -> None:
        """`members` are an object's text."""
        self._write(b'{"type":"%s","run":%d,' % (type.encode(), run) + members[1:])

    def _write(self, line: bytes) -> None:
        """What would end this child raises."""
        if len(line) >= self.longest:
            raise BadResult("it has %d bytes, the limit is %d" % (len(line), self.longest - 1))
        _check_for_wire(line)
        with self._lock, contextlib.suppress(OSError):  # it is gone: read() says so
            self._connection.sendall(line + b"\n")

    def ask(self, type: str, run: int, members: Dict[str, Any]) -> concurrent.futures.Future[Dict[str, Any]]:
        answer: concurrent.futures.Future[Dict[str, Any]] = concurrent.futures.Future()
        with self._lock:
            self._seq += 1
            seq = self._seq
            self._asked[seq] = answer
        try:
            self.say(type, dict(members, run=run, seq=seq))
        except BaseException:
            with self._lock:
                del self._asked[seq]
            raise
        return answer

    def answered(self, message: Dict[str, Any]) -> None:
        with self._lock:
            answer = self._asked.pop(message["seq"], None)
        if answer is not None and answer.set_running_or_notify_cancel():
            answer.set_result(message)


def _no_twins(pairs: List[Tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadResult("it has a member twice: %s" % ", ".join(sorted(name for name, _ in pairs))[:200])


def _check_for_wire(line: bytes) -> None:
    if line.count(b"[") + line.count(b"{") > 60:
        depth = 0
        for mark in re.findall(rb"[\[\]{}]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)):
            depth += 1 if mark in b"[{" else -1
            if depth > 64:
                raise BadResult("it is nested too deeply")
    json.loads(line, object_pairs_hook=_no_twins)


class _PipeTurn:
    """A turn's transport in a pool's child: words become the messages of PROTOCOL.md."""

    waits = True
    _PROBLEMS = {"invalid": (422, "invalid-request"), "refused": (422, "refused"), "limit": (409, "limit"),
                 "busy": (409, "conflict"), "wait-cycle": (409, "wait-cycle"), "stopped": (409, "cancelled")}  # fmt: skip

    def __init__(self, pipe: _Pipe, run: int, blocks: bool) -> None:
        self._pipe, self._run, self._blocks = pipe, run, blocks
        self._lock = threading.Lock()  # guards what follows: who speaks of a run that has ended is killed
        self._ended = False
        # A child that has more than 1000 requests of a run under way is killed: so many submissions of a map() at once, ...
        self._lines: Any = None
        self._room: Optional[asyncio.Semaphore] = None  # ... and so many of coroutines that ask beside each other

    def tell(self, type: str, **members: Any) -> None:
        with self._lock:
            if not self._ended:
                self._pipe.say(type, dict(members, run=self._run))

    def end(self, type: str, members: bytes) -> None:
        """BadResult: it has not ended."""
        with self._lock:
            self._pipe.say_json(type, self._run, members)
            self._ended = True

    def _begin_to_ask(self, type: str, members: Dict[str, Any]) -> concurrent.futures.Future[Dict[str, Any]]:
        with self._lock:
            if self._ended:
                raise LeaseLost("the turn is over")
            return self._pipe.ask(type, self._run, members)

    async def pause(self, seconds: float) -> None:
        if self._blocks:
            time.sleep(seconds)
        else:
            await asyncio.sleep(seconds)

    def lock(self) -> Any:
        return _ThreadLock() if self._blocks else asyncio.Lock()

    async def say(self, method: str, word: str, body: Optional[_Body] = None, timeout: float = _PATIENCE) -> _Answer:
        path, _, query = word.partition("?")
        word, _, rest = path.partition("/")
        if body is not None and body.type == "application/x-ndjson":
            return await self._submit_lines(body.data.splitlines())
        said = json.loads(body.data) if body is not None else None
        try:
            if word == "children":
                return _says(201, {"id": (await self._ask("submit", submission=said))["id"]})
            if word == "groups":
                return _says(201, {"id": (await self._ask("group", group=said))["id"]})
            if word == "steps":
                name = urllib.parse.unquote(rest)
                return _says(201, {"value": (await self._ask("step", name=name, value=said["value"]))["value"]})
            if word == "messages":
                return _says(201, {"seq": (await self._ask("message", body=said))["seq_out"]})
            if word == "inbox":
                return _says(200, {"items": await self._inbox(dict(urllib.parse.parse_qsl(query)))})
            if word == "wait":
                return _says(200, await self._wait(said))
            if word == "suspend":
                await self._ask("suspend", **said)
                return _Answer(204, {}, b"")
            assert word == "heartbeat"
            self.tell("progress", **said["progress"])
            return _says(200, {"cancel": False})
        except Problem as problem:
            return _no(problem.status, problem.type, problem.detail)

    async def _answer(self, asked: concurrent.futures.Future[Dict[str, Any]]) -> Dict[str, Any]:
        answer = asked.result() if self._blocks else await asyncio.wrap_future(asked)
        if "error" in answer:
            status, type = self._PROBLEMS.get(answer["error"]["type"], (422, answer["error"]["type"]))
            raise Problem(status, {"type": type, "detail": answer["error"].get("message", "")})
        return answer

    async def _ask(self, type: str, **members: Any) -> Dict[str, Any]:
        if self._blocks:
            return await self._answer(self._begin_to_ask(type, members))
        self._room = self._room or asyncio.Semaphore(400)
        async with self._room:
            return await self._answer(self._begin_to_ask(type, members))

    async def _submit_lines(self, lines: List[bytes]) -> _Answer:
        self._lines = self._lines or self.lock()
        async with self._lines:
            return await self._submit_all(lines)

    async def _submit_all(self, lines: List[bytes]) -> _Answer:
        answers = []
        for start in range(0, len(lines), 500):
            asked = [self._begin_to_ask("submit", {"submission": json.loads(line)}) for line in lines[start:start + 500]]
            for index, one in enumerate(asked, start):
                try:
                    answers.append({"index": index, "status": 201, "id": (await self._answer(one))["id"]})
                except Problem as problem:
                    told = {"type": problem.type, "detail": problem.detail}
                    answers.append({"index": index, "status": problem.status, "problem": told})
        return _Answer(200, {"content-type": "application/x-ndjson"}, b"\n".join(map(_json, answers)))

    async def _inbox(self, asked: Dict[str, str]) -> List[Dict[str, Any]]:
        after, wait = int(asked["after"]), round(_seconds(asked["wait"]) * 1000)
        found: List[Dict[str, Any]] = []
        while len(found) < 1000:
            message = (await self._ask("inbox", after=after, timeout_ms=0 if found else wait))["message"]
            if message is None:
                break
            found.append(message)
            after = message["seq"]
        return found

    async def _wait(self, said: Dict[str, Any]) -> Dict[str, Any]:
        members: Dict[str, Any] = {"ids": said["on"]["ids"], "mode": said["on"].get("mode", "all")}
        if "timeout" in said:
            members["timeout_ms"] = round(_seconds(said["timeout"]) * 1000)
        answer = await self._ask("wait", **members)
        results = answer["results"]
        if answer.get("results_left_out"):
            results = [(await self._ask("look", id=one["id"]))["result"] if one["status"] in _FINAL else one
                       for one in results]
        return {"results": results, "cancel": False, "timed_out": answer.get("timed_out", False)}


class _Pool:
    """A child of a process pool: the main thread reads what the server says."""

    def __init__(self, connection: socket.socket) -> None:
        self._pipe, self._bodies = _Pipe(connection), _Bodies()
        self._lock = threading.Lock()  # guards _held
        self._held: Dict[int, _Turn] = {}
        self._news = threading.Event()

    def run(self) -> int:
        hello = self._pipe.read()
        if hello is None:
            return 0
        self._pipe.longest = hello["limits"]["line"]
        self._bodies.start()
        threading.Thread(target=self._keep, daemon=True, name="errand-keep").start()
        self._pipe.say("ready", {"protocol": 1, "client": "errand.py " + __version__})
        while True:
            message = self._pipe.read()
            if message is None or message["type"] == "close":
                break
            self._hear(message)
        self._bodies.stop()
        return 0

    def held(self) -> List[_Turn]:
        with self._lock:
            return list(self._held.values())

    def _hear(self, message: Dict[str, Any]) -> None:
        if message["type"] == "run":
            self._begin(message)
        elif message["type"] == "answer":
            self._pipe.answered(message)
        elif message["type"] == "cancel":
            with self._lock:
                turn = self._held.get(message["run"])
            if turn is not None:
                turn._cancel()

    def _begin(self, run: Dict[str, Any]) -> None:
        number, function = run["run"], _tasks.get(run["task"])
        if function is None:
            detail = "this program has no task %r, but %s" % (run["task"], _known())
            error = {"type": "no_such_task", "message": detail, "retry": False}
            return self._pipe.say("failed", {"run": number, "error": error})
        invocation = {"id": run["id"], "task": run["task"], "attempt": run["attempt"], "args": run.get("args"),
                      "timeout": "%dms" % run["timeout_ms"] if "timeout_ms" in run else None,
                      "deadline": run.get("deadline")}  # fmt: skip
        lease = {"invocation": invocation, "state": run.get("state"), "woken": run.get("woken"), "steps": run.get("steps", {})}
        coroutine = _is_coroutine(function)
        transport = _PipeTurn(self._pipe, number, not coroutine)
        turn = (AsyncTurn if coroutine else Turn)(transport, lease, self._bodies.context)
        turn._news = lambda: self._tell_prints(turn, transport, False)
        with self._lock:
            self._held[number] = turn
        self._bodies.begin(turn, function, lambda end: self._end(number, turn, transport, end))

    def _tell_prints(self, turn: _Turn, transport: _PipeTurn, ends: bool) -> None:
        """At once, whole lines: what is printed before a crash is there. How far it is can wait a little."""
        if turn._progress:
            self._news.set()
        with turn._tell_lock:
            if not turn._out or not (ends or turn._out[-1][1].endswith("\n") or turn._out_size > 8192):
                return
            for stream, text in turn._take_out():
                for start in range(0, len(text), 1 << 20):
                    transport.tell("log", stream=stream, text=_clean(text[start:start + (1 << 20)]))

    def _keep(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            for turn in self.held():
                progress = turn._take_progress()
                if progress:
                    turn._transport.tell("progress", **progress)
            time.sleep(0.1)

    def _end(self, number: int, turn: _Turn, transport: _PipeTurn, end: Optional[Tuple[str, bytes]]) -> None:
        turn._ended = True
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._tell_prints(turn, transport, True)
        progress = turn._take_progress()
        if progress:
            transport.tell("progress", **progress)
        word, said = end or ("complete", b'{"result":null}')  # it has suspended
        with self._lock:
            del self._held[number]
        try:
            transport.end("done" if word == "complete" else "failed", said)
        except BadResult as error:
            transport.end("failed", _json({"error": {"type": "bad_result", "message": str(error)}}))


def _serve_pool() -> int:
    connection = socket.socket(fileno=int(os.environ.pop("ERRAND_FD")))
    connection.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the server
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _catch_prints()
    pool = _Pool(connection)
    status = pool.run()
    if pool.held():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


# --- a client ------------------------------------------------------------------------------------


class _Client:
    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, patience: Duration = "30s") -> None:
        """`patience`: how long a server that is away is asked again."""
        url = url or os.environ.get("ERRAND_URL") or "http://127.0.0.1:8080"
        self._patience = _seconds(patience)
        self._http: Any = self._make(url, token or os.environ.get("ERRAND_TOKEN"))

    _handle: Any
    _group_handle: Any
    _blocks = True

    def _make(self, url: str, token: Optional[str]) -> Any:
        if url == "inline:":
            return _Inline().side(self._blocks)
        return (_BlockingHttp if self._blocks else _AsyncHttp)(url, token)

    def __del__(self) -> None:
        if hasattr(self, "_http"):
            self._http.close()

    async def _ask(self, method: str, path: str, body: Optional[_Body] = None, timeout: float = _PATIENCE) -> _Answer:
        backoff, until = _Backoff(), time.monotonic() + self._patience
        while True:
            try:
                answer = await self._http.ask(method, path, body, timeout=timeout)
                value = answer.value() if answer.status >= 400 else None
                if answer.status < 400:
                    return answer
                if not _is_passing(answer.status, value) or time.monotonic() > until:
                    raise Problem(answer.status, value)
                at_least = answer.retry_after()
            except Unreachable:
                at_least = 0.0
                if time.monotonic() > until:
                    raise
            await self._http.pause(backoff.next(at_least))

    async def _submit(self, task: Any, args: Sequence[Any], options: Dict[str, Any]) -> Any:
        said = _submission(task, args, options)
        row = (await self._ask("POST", "/tasks", _Body(_json(said, "the submission")))).value()
        return self._handle(self, row["id"], row["task"])

    async def _submit_all(self, task: Any, items: Iterable[Any], options: Dict[str, Any]) -> List[Any]:
        async def post(body: _Body) -> Any:
            return (await self._ask("POST", "/invocations", body, timeout=120.0)).value()

        handles: List[Any] = []
        for lines in _batches(_submission(task, _of_item(item), options) for item in items):
            for id in await _submit_lines(lines, post, self._http.pause):
                handles.append(self._handle(self, id, _task_name(task)))
        return handles

    async def _wait(self, handles: Sequence[_Waitable], timeout: Optional[Duration]) -> None:
        until = None if timeout is None else time.monotonic() + _seconds(timeout)
        for handle in handles:
            while not handle._end:
                wait = _LONGEST_WAIT if until is None else max(min(until - time.monotonic(), _LONGEST_WAIT), 0.0)
                path = "/invocations/%s?wait=%dms" % (handle.id, wait * 1000)
                row = (await self._ask("GET", path, timeout=wait + _PATIENCE)).value()
                handle.task = row["task"]
                if row["status"] in _FINAL:
                    handle._end = row
                elif not self._http.waits:
                    raise ErrandError("%s of %s sleeps, and in this process nothing wakes it but send() and wake()" %
                                      (row["id"], row["task"]))
                elif until is not None and time.monotonic() >= until:
                    raise TimeoutError("%s of %s is %s" % (row["id"], row["task"], row["status"]))

    def _handles(self, given: Any) -> List[Any]:
        given = [given] if isinstance(given, (_Waitable, str)) else list(given)
        return [self._handle(self, one) if isinstance(one, str) else one for one in given]

    async def _row(self, handle: _Waitable) -> Dict[str, Any]:
        row: Dict[str, Any] = (await self._ask("GET", "/invocations/" + handle.id)).value()
        handle.task = row["task"]
        return row

    async def _change(self, handle: _Waitable, what: str, body: Any = None) -> Dict[str, Any]:
        handle._end = None
        said = None if body is None else _Body(_json(body))
        row: Dict[str, Any] = (await self._ask("POST", "/invocations/%s/%s" % (handle.id, what), said)).value()
        return row

    async def _send(self, handle: _Waitable, body: Any, key: Optional[str]) -> int:
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        said, backoff, until = _Body(_json(body, "the message")), _Backoff(), time.monotonic() + self._patience
        while True:
            answer = None
            with contextlib.suppress(Unreachable):
                answer = await self._http.ask("POST", "/invocations/%s/inbox" % handle.id, said, headers=headers)
                if answer.status < 400:
                    return answer.value()["seq"]
            if answer and not _is_passing(answer.status, answer.value()):
                raise Problem(answer.status, answer.value())
            if time.monotonic() > until:
                raise Unreachable("%s: the message may have been sent or not" % self._http.url)
            await self._http.pause(backoff.next())

    async def _messages(self, handle: _Waitable, after: int, kind: str) -> List[Message]:
        found: List[Message] = []
        cursor = ""
        while True:
            path = "/invocations/%s/messages?limit=1000&after=%d&kind=%s%s" % (handle.id, after, kind, cursor)
            page = (await self._ask("GET", path)).value()
            found += [_message(one) for one in page["items"]]
            if page["next"] is None:
                return found
            cursor = "&cursor=" + urllib.parse.quote(page["next"], safe="")

    async def _follow(self, handle: _Waitable, after: int, kind: str, descendants: bool) -> AsyncIterator[Message]:
        path = ("/messages?root=%s&kind=%s" if descendants else "/invocations/%s/messages?kind=%s") % (handle.id, kind)
        backoff, until = _Backoff(), time.monotonic() + self._patience
        while True:
            try:
                async for event, _, data in self._http.events(path + "&after=%d" % after, {}):
                    backoff, until = _Backoff(), time.monotonic() + self._patience
                    if event == "message":
                        message = _message(json.loads(data))
                        after = message.seq
                        yield message
                    elif event == "end" and not descendants:
                        return
                if descendants or not self._http.waits:
                    return  # it ends by itself when all of them have
            except (Unreachable, Problem) as error:
                passes = isinstance(error, Unreachable) or _is_passing(error.status, {"type": error.type})
                if not passes or time.monotonic() > until:
                    raise
            await self._http.pause(backoff.next())

    async def _group(self, said: Dict[str, Any]) -> Any:
        if not self._http.waits:
            raise ErrandError("there are no groups inline")
        row = (await self._ask("POST", "/groups", _Body(_json(said, "the group")), timeout=120.0)).value()
        group = self._group_handle(self, row)
        group.task = said.get("task", "")
        return group

    async def _change_group(self, group: Any, what: str) -> Dict[str, Any]:
        row: Dict[str, Any] = (await self._ask("POST", "/groups/%s/%s" % (group.id, what))).value()
        return row

    async def _wait_group(self, group: Any, timeout: Optional[Duration]) -> Dict[str, Any]:
        until = None if timeout is None else time.monotonic() + _seconds(timeout)
        while True:
            wait = _LONGEST_WAIT if until is None else max(min(until - time.monotonic(), _LONGEST_WAIT), 0.0)
            row: Dict[str, Any] = (await self._ask("GET", "/groups/%s?wait=%dms" % (group.id, wait * 1000),
                                                   timeout=wait + _PATIENCE)).value()
            if row["status"] in _FINAL:
                return row
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("the group %s is %s" % (row["id"], row["status"]))

    async def _results(self, group: Any, order: str) -> AsyncIterator[Any]:
        """Handles of those that have ended, as they do, until the group is final."""
        cursor, backoff, until = "", _Backoff(), time.monotonic() + self._patience
        while True:
            path = "/groups/%s/results?order=%s&cursor=%s" % (group.id, order, urllib.parse.quote(cursor, safe=""))
            try:
                async for line in self._http.lines(path):
                    backoff, until = _Backoff(), time.monotonic() + self._patience
                    cursor = line["cursor"]
                    handle = self._handle(self, line["id"], group.task)
                    handle._end = line
                    handle.index, handle.name = line["index"], line.get("name")
                    yield handle
                if (await self._ask("GET", "/groups/" + group.id)).value()["status"] in _FINAL:
                    return
            except (Unreachable, Problem) as error:
                passes = isinstance(error, Unreachable) or _is_passing(error.status, {"type": error.type})
                if not passes or time.monotonic() > until:
                    raise
            await self._http.pause(backoff.next())

    async def _map(self, task: Any, items: Iterable[Any], timeout: Optional[Duration], options: Dict[str, Any]) -> List[Any]:
        """Handles in order, all of which have ended."""
        until = None if timeout is None else time.monotonic() + _seconds(timeout)
        if not self._http.waits:
            handles = await self._submit_all(task, items, options)
            await self._wait(handles, timeout)
            return handles
        parts = list(_parts(items))
        groups = [await self._group(_group(task, part, None, dict(options, key=options["key"] + "/%d" % number)
                                           if number and options.get("key") else options))
                  for number, part in enumerate(parts)]
        ended: List[Any] = []
        for group in groups:
            await self._wait_group(group, None if until is None else max(until - time.monotonic(), 0.0))
            ended += [handle async for handle in self._results(group, "submission")]
        return ended

    async def _list(self, filters: Dict[str, Any]) -> AsyncIterator[Dict[str, Any]]:
        asked = [(name, one) for name, value in filters.items()
                 for one in (value if isinstance(value, (list, tuple)) else [value])]
        cursor: List[Tuple[str, str]] = []
        while True:
            page = (await self._ask("GET", "/invocations?" + urllib.parse.urlencode(asked + cursor))).value()
            for row in page["items"]:
                yield row
            if page["next"] is None:
                return
            cursor = [("cursor", page["next"])]


class Handle(_Waitable):
    """An invocation that a Client has submitted, or was given the id of."""

    def wait(self, timeout: Optional[Duration] = None) -> Any:
        """Its result; TaskFailed, or TimeoutError."""
        return self._owner.wait(self, timeout=timeout)

    def get(self) -> Dict[str, Any]:
        """The invocation as it is now."""
        return _drive(self._owner._row(self))

    def status(self) -> str:
        return self.get()["status"]

    def cancel(self) -> Dict[str, Any]:
        return _drive(self._owner._change(self, "cancel"))

    def retry(self, fresh: bool = False) -> Dict[str, Any]:
        return _drive(self._owner._change(self, "retry", {"fresh": True} if fresh else None))

    def release(self) -> Dict[str, Any]:
        """A promise (hold=True): from now on it may run."""
        return _drive(self._owner._change(self, "release"))

    def send(self, body: Any, key: Optional[str] = None) -> int:
        """Into its inbox; the message's number."""
        return _drive(self._owner._send(self, body, key))

    def messages(self, after: int = 0, kind: str = "out") -> List[Message]:
        """What it has sent so far."""
        return _drive(self._owner._messages(self, after, kind))

    def follow(self, after: int = 0, kind: str = "out", descendants: bool = False) -> Iterator[Message]:
        """What it sends, as it comes, until it ends; of all below it, too. Goes on behind the last one if a connection
        breaks."""
        return _each(self._owner._follow(self, after, kind, descendants))

    def log(self) -> str:
        return _drive(self._owner._ask("GET", "/invocations/%s/log" % self.id)).data.decode("utf-8", "replace")

    def wake(self) -> Dict[str, Any]:
        """Inline: as if the time had come until which it sleeps."""
        return _drive(self._owner._change(self, "wake"))


class AsyncHandle(_Waitable):
    async def wait(self, timeout: Optional[Duration] = None) -> Any:
        """Its result; TaskFailed, or TimeoutError."""
        return await self._owner.wait(self, timeout=timeout)

    async def get(self) -> Dict[str, Any]:
        return await self._owner._row(self)

    async def status(self) -> str:
        return (await self.get())["status"]

    async def cancel(self) -> Dict[str, Any]:
        return await self._owner._change(self, "cancel")

    async def retry(self, fresh: bool = False) -> Dict[str, Any]:
        return await self._owner._change(self, "retry", {"fresh": True} if fresh else None)

    async def release(self) -> Dict[str, Any]:
        return await self._owner._change(self, "release")

    async def send(self, body: Any, key: Optional[str] = None) -> int:
        return await self._owner._send(self, body, key)

    async def messages(self, after: int = 0, kind: str = "out") -> List[Message]:
        return await self._owner._messages(self, after, kind)

    def follow(self, after: int = 0, kind: str = "out", descendants: bool = False) -> AsyncIterator[Message]:
        return self._owner._follow(self, after, kind, descendants)

    async def log(self) -> str:
        answer = await self._owner._ask("GET", "/invocations/%s/log" % self.id)
        return answer.data.decode("utf-8", "replace")

    async def wake(self) -> Dict[str, Any]:
        return await self._owner._change(self, "wake")


class _GroupHandle:
    def __init__(self, owner: Any, row: Dict[str, Any]) -> None:
        self._owner, self.id, self.mode = owner, row["id"], row.get("mode")
        self.task = ""
        self.ids: List[str] = row.get("invocations", [])  # of its members, in order

    def __repr__(self) -> str:
        return "<%s %s>" % (type(self).__name__, self.id)

    @property
    def handles(self) -> List[Any]:
        """Of the members that it was made with, in order."""
        return [self._owner._handle(self._owner, id, self.task) for id in self.ids]


class Group(_GroupHandle):
    """Invocations that a Client has submitted together."""

    def get(self) -> Dict[str, Any]:
        """The group as it is now: how many of its members have which status."""
        return _drive(self._owner._ask("GET", "/groups/" + self.id)).value()

    def status(self) -> str:
        return self.get()["status"]

    def wait(self, timeout: Optional[Duration] = None, *, return_exceptions: bool = False) -> List[Any]:
        """The results of all its members, in order; the first failure as TaskFailed, or (return_exceptions) in its
        place among them."""
        _drive(self._owner._wait_group(self, timeout))
        return [handle._outcome(return_exceptions) for handle in self.results()]

    def results(self) -> Iterator[Handle]:
        """Its members in order, each when it and all before it have ended; their wait() answers at once. They have an
        `index`, and in a graph a `name`."""
        return _each(self._owner._results(self, "submission"))

    def as_completed(self) -> Iterator[Handle]:
        """The same, as they end."""
        return _each(self._owner._results(self, "completion"))

    def release(self) -> Dict[str, Any]:
        """Its promises (hold=True) may run."""
        return _drive(self._owner._change_group(self, "release"))

    def close(self) -> Dict[str, Any]:
        """Nothing more is added (open=True: by submit(..., group=this))."""
        return _drive(self._owner._change_group(self, "close"))

    def cancel(self) -> Dict[str, Any]:
        return _drive(self._owner._change_group(self, "cancel"))


class AsyncGroup(_GroupHandle):
    async def get(self) -> Dict[str, Any]:
        return (await self._owner._ask("GET", "/groups/" + self.id)).value()

    async def status(self) -> str:
        return (await self.get())["status"]

    async def wait(self, timeout: Optional[Duration] = None, *, return_exceptions: bool = False) -> List[Any]:
        await self._owner._wait_group(self, timeout)
        return [handle._outcome(return_exceptions) async for handle in self.results()]

    def results(self) -> AsyncIterator[AsyncHandle]:
        return self._owner._results(self, "submission")

    def as_completed(self) -> AsyncIterator[AsyncHandle]:
        return self._owner._results(self, "completion")

    async def release(self) -> Dict[str, Any]:
        return await self._owner._change_group(self, "release")

    async def close(self) -> Dict[str, Any]:
        return await self._owner._change_group(self, "close")

    async def cancel(self) -> Dict[str, Any]:
        return await self._owner._change_group(self, "cancel")


class Client(_Client):
    """Submits and follows, from outside: Client("http://127.0.0.1:8080"), or as ERRAND_URL and ERRAND_TOKEN say. Any
    thread may use it. Client("inline:") runs what is submitted at once, in this process, for people's own tests."""

    _handle = Handle
    _group_handle = Group

    def submit(self, task: Union[str, Callable[..., Any]], *args: Any, **options: Unpack[Options]) -> Handle:
        """On disk when it returns. submit("f", 1, 2) calls f(1, 2), submit("f", {"x": 1}) calls f(x=1)."""
        return _drive(self._submit(task, args, dict(options)))

    def submit_all(self, task: Union[str, Callable[..., Any]], items: Iterable[Any], **options: Unpack[Options]
                   ) -> List[Handle]:
        """One for each item (a tuple is several arguments), in few requests."""
        return _drive(self._submit_all(task, items, dict(options)))

    def map(self, task: Union[str, Callable[..., Any]], items: Iterable[Any], *, return_exceptions: bool = False,
            timeout_of_all: Optional[Duration] = None, **options: Unpack[Options]) -> List[Any]:
        """Their results, in order: a group of one for each item (a tuple is several arguments)."""
        handles = _drive(self._map(task, items, timeout_of_all, dict(options)))
        return [handle._outcome(return_exceptions) for handle in handles]

    def group(self, task: Union[str, Callable[..., Any], None] = None, items: Optional[Iterable[Any]] = None, *,
              invocations: Optional[Iterable[Dict[str, Any]]] = None, **options: Any) -> Group:
        """Many at once, all of them or none: group("add", [(1, 2), {"x": 3}, 4], mode="chain", fail_fast=True), or
        group(invocations=[{"task": "add", "args": [1, 2], "name": "a"}, {"task": "add", "after": ["a"], ...}]). Options
        are those of a submission, for every member, and the group's: mode, common_args, hold, release_by, open,
        fail_fast."""
        return _drive(self._group(_group(task, items, invocations, dict(options))))

    def wait(self, handles: Handles, timeout: Optional[Duration] = None, *, return_exceptions: bool = False) -> Any:
        """The result of one; the results of many, in order, or the first failure."""
        found = self._handles(handles)
        _drive(self._wait(found, timeout))
        return _answer_of(handles, found, "all", return_exceptions)

    def handle(self, id: str) -> Handle:
        return Handle(self, id)

    def list(self, **filters: Any) -> Iterator[Dict[str, Any]]:
        """As GET /invocations has them: list(status=["failed", "cancelled"], task="order", view="full")."""
        return _each(self._list(filters))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncClient(_Client):
    """The same, for coroutines."""

    _handle = AsyncHandle
    _group_handle = AsyncGroup
    _blocks = False

    async def submit(self, task: Union[str, Callable[..., Any]], *args: Any, **options: Unpack[Options]) -> AsyncHandle:
        return await self._submit(task, args, dict(options))

    async def submit_all(self, task: Union[str, Callable[..., Any]], items: Iterable[Any], **options: Unpack[Options]
                         ) -> List[AsyncHandle]:
        return await self._submit_all(task, items, dict(options))

    async def map(self, task: Union[str, Callable[..., Any]], items: Iterable[Any], *, return_exceptions: bool = False,
                  timeout_of_all: Optional[Duration] = None, **options: Unpack[Options]) -> List[Any]:
        handles = await self._map(task, items, timeout_of_all, dict(options))
        return [handle._outcome(return_exceptions) for handle in handles]

    async def group(self, task: Union[str, Callable[..., Any], None] = None, items: Optional[Iterable[Any]] = None, *,
                    invocations: Optional[Iterable[Dict[str, Any]]] = None, **options: Any) -> AsyncGroup:
        return await self._group(_group(task, items, invocations, dict(options)))

    async def wait(self, handles: Handles, timeout: Optional[Duration] = None, *, return_exceptions: bool = False) -> Any:
        found = self._handles(handles)
        await self._wait(found, timeout)
        return _answer_of(handles, found, "all", return_exceptions)

    def handle(self, id: str) -> AsyncHandle:
        return AsyncHandle(self, id)

    def list(self, **filters: Any) -> AsyncIterator[Dict[str, Any]]:
        return self._list(filters)

    async def close(self) -> None:
        self._http.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._http.close()


# --- inline --------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Row:
    """An invocation of an inline service."""

    id: str
    said: Dict[str, Any]
    parent: Optional[str]
    status: str = "queued"
    result: Any = None
    error: Optional[Dict[str, Any]] = None
    attempt: int = 0
    failures: int = 0
    turns: int = 0
    steps: Dict[str, Any] = dataclasses.field(default_factory=dict)
    children: Dict[str, str] = dataclasses.field(default_factory=dict)  # by step
    out: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    inbox: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    given: int = 0  # the last message that a turn was given, and the last that was read
    read: int = 0
    state: Any = None
    on: Optional[Dict[str, Any]] = None  # what is to wake it
    woken: Optional[Dict[str, Any]] = None
    time_is_up: bool = False
    progress: Optional[Dict[str, Any]] = None
    log: str = ""

    def shown(self) -> Dict[str, Any]:
        said = self.said
        return {"id": self.id, "task": said["task"], "status": self.status, "priority": said.get("priority", 1),
                "args": said.get("args"), "result": self.result, "error": self.error, "attempt": self.attempt,
                "max_retries": said.get("max_retries", 0), "timeout": said.get("timeout"), "labels": said.get("labels"),
                "key": said.get("key"), "parent": self.parent, "step": said.get("step"), "turns": self.turns,
                "progress": self.progress}

    def unread(self) -> List[Dict[str, Any]]:
        return [message for message in self.inbox if message["seq"] > self.read]


def _says(status: int, value: Any = None) -> _Answer:
    return _Answer(status, {"content-type": "application/json"}, b"" if value is None else _json(value))


def _no(status: int, type: str, detail: str) -> _Answer:
    return _says(status, {"type": "urn:errand:problem:" + type, "title": type, "status": status, "detail": detail})


class _InlineSide:
    """What _Http is to a server. `blocks`: whoever asks cannot await."""

    waits = False
    url = "inline:"

    def __init__(self, service: _Inline, blocks: bool) -> None:
        self._service, self._blocks = service, blocks

    async def ask(self, method: str, path: str, body: Optional[_Body] = None, headers: Optional[Dict[str, str]] = None,
                  timeout: float = 0.0) -> _Answer:
        return await self._service.ask(method, path, body, headers or {}, self._blocks)

    async def events(self, path: str, headers: Dict[str, str]) -> AsyncIterator[Tuple[str, str, str]]:
        for row in self._service.sent(path):
            yield "message", str(row["seq"]), json.dumps(row)

    async def pause(self, seconds: float) -> None:
        pass

    def lock(self) -> Any:
        return _NoLock()

    def close(self) -> None:
        pass


class _NoLock:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: Any) -> None:
        pass


class _Inline:
    """A service in this process: who submits runs it. Nothing is ever waited for: it is there, or never comes. Times
    (delays, backoff, sleep) pass at once."""

    def __init__(self) -> None:
        self._rows: Dict[str, _Row] = {}
        self._seq = 0

    def side(self, blocks: bool) -> _InlineSide:
        return _InlineSide(self, blocks)

    def sent(self, path: str) -> List[Dict[str, Any]]:
        parts = urllib.parse.urlsplit(path)
        asked = dict(urllib.parse.parse_qsl(parts.query))
        after, kind = int(asked.get("after", 0)), asked.get("kind", "out")
        root = asked.get("root")
        found = [row for row in self._rows.values()
                 if (self._is_below(row, root) if root else parts.path == "/messages" or row.id in parts.path)]
        rows = [message for row in found for message in row.out + row.inbox
                if message["seq"] > after and kind in ("all", message["kind"])]
        return sorted(rows, key=lambda message: message["seq"])

    def _is_below(self, row: Optional[_Row], root: str) -> bool:
        while row is not None and row.id != root:
            row = self._rows.get(row.parent or "")
        return row is not None

    async def ask(self, method: str, path: str, body: Optional[_Body], headers: Dict[str, str], blocks: bool) -> _Answer:
        parts = urllib.parse.urlsplit(path)
        names = [urllib.parse.unquote(name) for name in parts.path.split("/")[1:]]
        said = None
        if body is not None and body.type == "application/json":
            said = json.loads(body.data)
        if path == "/tasks":
            return await self._submit(said, None, blocks)
        if path == "/invocations":
            return await self._submit_lines(body, None, blocks)
        row = self._rows.get(names[1]) if len(names) > 1 else None
        if row is None:
            return _no(404, "not-found", "there is no %s inline" % path)
        if names[0] == "leases":
            return await self._of_turn(row, method, names[2], "/".join(names[3:]), said, body, parts.query, blocks)
        return await self._of_invocation(row, method, names[2] if len(names) > 2 else "", said, path, blocks)

    # from outside

    async def _submit(self, said: Dict[str, Any], parent: Optional[_Row], blocks: bool) -> _Answer:
        for row in self._rows.values():
            if said.get("key") and row.said.get("key") == said["key"]:
                return _says(200, row.shown())
        step = said.get("step")
        if parent is not None and step in parent.children:
            return _says(200, self._rows[parent.children[step]].shown())
        if parent is not None and step in parent.steps:
            return _no(409, "conflict", "the step %r is a value" % step)
        if said["task"] not in _tasks:
            return _no(422, "invalid-request", "there is no task %r in this process" % said["task"])
        row = _Row("0INLINE%06d" % len(self._rows), said, parent.id if parent else None)
        self._rows[row.id] = row
        if parent is not None and step:
            parent.children[step] = row.id
        await self._run(row, blocks)
        return _says(201, row.shown())

    async def _submit_lines(self, body: Any, parent: Optional[_Row], blocks: bool) -> _Answer:
        lines = []
        for index, line in enumerate(body.data.splitlines()):
            answer = await self._submit(json.loads(line), parent, blocks)
            found = {"id": answer.value()["id"]} if answer.status < 300 else {"problem": answer.value()}
            lines.append(_json(dict(found, index=index, status=answer.status)))
        return _Answer(200, {"content-type": "application/x-ndjson"}, b"\n".join(lines))

    async def _of_invocation(self, row: _Row, method: str, word: str, said: Any, path: str, blocks: bool) -> _Answer:
        if word == "messages":
            return _says(200, {"items": self.sent(path), "next": None})
        if word == "log":
            return _Answer(200, {"content-type": "text/plain"}, row.log.encode())
        if word == "inbox":
            if row.status in _FINAL:
                return _no(409, "conflict", "%s is %s" % (row.id, row.status))
            seq = self._add(row, row.inbox, "in", said)
            await self._go_on(blocks)
            return _says(201, {"seq": seq})
        if word == "cancel":
            self._cancel(row)
        elif word == "retry":
            if row.status not in ("failed", "cancelled"):
                return _no(409, "conflict", "%s is %s" % (row.id, row.status))
            if (said or {}).get("fresh"):
                row.state, row.woken, row.steps, row.children = None, None, {}, {}
            row.failures, row.error = 0, None
            await self._run(row, blocks)
        elif word == "wake":
            if row.status != "waiting" or "until" not in (row.on or {}):
                return _no(409, "conflict", "%s does not sleep until a time" % row.id)
            row.time_is_up = True
            await self._go_on(blocks)
        return _says(200, row.shown())

    def _add(self, row: _Row, box: List[Dict[str, Any]], kind: str, body: Any) -> int:
        self._seq += 1
        box.append({"seq": self._seq, "kind": kind, "invocation": row.id, "at": _when(datetime.datetime.now()),
                    "body": body})  # fmt: skip
        return self._seq

    def _cancel(self, row: _Row) -> None:
        if row.status in _FINAL:
            return
        row.status, row.on = "cancelled", None
        for child in list(self._rows.values()):
            if child.parent == row.id and not child.said.get("detached"):
                self._cancel(child)

    # what runs

    async def _run(self, row: _Row, blocks: bool) -> None:
        """Its turns, until it is final or sleeps."""
        row.attempt += 1
        while True:
            row.status = "running"
            await self._one_turn(row, blocks)
            if row.status == "waiting":
                row.woken = self._what_wakes(row)
                if row.woken is None:
                    return
                row.on, row.time_is_up = None, False
            elif row.status == "queued":
                row.attempt += 1
            else:
                return await self._go_on(blocks)

    async def _one_turn(self, row: _Row, blocks: bool) -> None:
        function = _tasks[row.said["task"]]
        row.given = max([message["seq"] for message in (row.woken or {}).get("messages", [])], default=row.read)
        lease = {"invocation": json.loads(json.dumps(row.shown())), "state": row.state, "woken": row.woken,
                 "steps": row.steps}  # fmt: skip
        coroutine = _is_coroutine(function)
        turn = (AsyncTurn if coroutine else Turn)(_HttpTurn(self.side(not coroutine), "/leases/" + row.id), lease)
        turn._news = lambda: self._hear(row, turn)
        work = self._body(turn, function)
        end = _run_alone(work) if coroutine and blocks else await work
        if end is not None:
            self._ended(row, end[0], json.loads(end[1]))

    @staticmethod
    async def _body(turn: _Turn, function: Callable[..., Any]) -> Any:
        outer = _current.set(turn)
        try:
            return await _perform(turn, function)
        finally:
            _current.reset(outer)

    @staticmethod
    def _hear(row: _Row, turn: _Turn) -> None:
        row.log += "".join(text for _, text in turn._take_out())
        row.progress = turn._take_progress() or row.progress

    @staticmethod
    def _ended(row: _Row, word: str, said: Dict[str, Any]) -> None:
        if row.status != "running":
            return
        if word == "complete":
            row.status, row.result, row.error, row.read = "succeeded", said["result"], None, row.given
            return
        error = said["error"]
        retry = error.pop("retry", None)
        error.pop("retry_after", None)
        row.error = error
        row.failures += 1
        budget = row.said.get("max_retries", 3 if retry else 0)  # the task's own is not known here
        row.status = "queued" if retry is not False and row.failures <= budget else "failed"

    def _what_wakes(self, row: _Row) -> Optional[Dict[str, Any]]:
        on = row.on or {}
        found = [self._rows[id] for id in on.get("ids", [])]
        ended = [one.status in _FINAL for one in found]
        by = "ids" if found and (any(ended) if on["mode"] == "any" else all(ended)) else \
            "inbox" if on.get("inbox") and row.unread() else "until" if row.time_is_up else None
        if by is None:
            return None
        results = [{"id": one.id, "step": one.said.get("step"), "status": one.status, "result": one.result,
                    "error": one.error} for one in found]  # fmt: skip
        messages = [{"seq": one["seq"], "body": one["body"]} for one in row.unread()]
        return {"by": by, "results": results, "messages": messages}

    async def _go_on(self, blocks: bool) -> None:
        """With those who sleep, and whose time has come."""
        for row in list(self._rows.values()):
            if row.status == "waiting":
                woken = self._what_wakes(row)
                if woken:
                    row.woken, row.on, row.time_is_up = woken, None, False
                    row.attempt -= 1  # it is no new one
                    await self._run(row, blocks)

    # what a turn says

    async def _of_turn(self, row: _Row, method: str, word: str, rest: str, said: Any, body: Any, query: str,
                       blocks: bool) -> _Answer:
        if row.status == "cancelled":
            return _no(409, "cancelled", "%s is cancelled" % row.id)
        if row.status != "running":
            return _no(409, "stale-lease", "the turn is over")
        if word == "children":
            if body.type == "application/x-ndjson":
                return await self._submit_lines(body, row, blocks)
            return await self._submit(said, row, blocks)
        if word == "steps":
            if rest in row.children:
                return _no(409, "conflict", "the step %r is a child" % rest)
            known = rest in row.steps
            return _says(200 if known else 201, {"name": rest, "value": row.steps.setdefault(rest, said["value"])})
        if word == "messages":
            return _says(201, {"seq": self._add(row, row.out, "out", said)})
        if word == "inbox":
            after = int(dict(urllib.parse.parse_qsl(query)).get("after", 0))
            items = [message for message in row.unread() if message["seq"] > after]
            row.given = max([row.given] + [message["seq"] for message in items])
            return _says(200, {"items": items})
        if word == "wait":
            return self._wait(said)
        if word == "suspend":
            return self._suspend(row, said)
        return _no(404, "not-found", "there is no %s inline" % word)

    def _wait(self, said: Dict[str, Any]) -> _Answer:
        ids = said["on"]["ids"]
        if any(id not in self._rows for id in ids):
            return _no(422, "invalid-request", "there is no such invocation")
        found = [self._rows[id] for id in ids]
        ended = [row.status in _FINAL for row in found]
        met = any(ended) if said["on"]["mode"] == "any" else all(ended)
        if not met and "timeout" not in said:
            waits = found[ended.index(False)]
            return _no(409, "inline", "%s of %s sleeps, and in this process nothing wakes it but send() and wake()" %
                       (waits.id, waits.said["task"]))
        results = [{"id": row.id, "status": row.status, "result": row.result, "error": row.error} for row in found]
        return _says(200, {"results": results, "cancel": False, "timed_out": not met})

    def _suspend(self, row: _Row, said: Dict[str, Any]) -> _Answer:
        if any(id not in self._rows for id in said["on"].get("ids", [])):
            return _no(422, "invalid-request", "there is no such invocation")
        row.status, row.on, row.state, row.read = "waiting", said["on"], said["state"], row.given
        row.turns += 1
        row.failures = 0
        return _Answer(204, {}, b"")


def _run_alone(work: Any) -> Any:
    """A coroutine, from where none can be awaited; perhaps below a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    found: List[Any] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: found.append(context.run(asyncio.run, work)))
    thread.start()
    thread.join()
    return found[0]


# --- the command line ----------------------------------------------------------------------------


def serve() -> None:
    """Runs the tasks of this process until it is told to stop, and exits. As a pool's child (ERRAND_FD) of the server
    that started it; else as a worker elsewhere, with ERRAND_URL and the options of `python3 -m errand worker`. In a
    module that this loads it does nothing: what loads it serves."""
    if _loads:
        return
    sys.exit(_serve_pool() if "ERRAND_FD" in os.environ else _work(sys.argv[1:]))


def _known() -> str:
    return ", ".join(_tasks) or "none at all: a function has @task"


_loads = False  # modules of `python3 -m errand worker`


def _load_all(modules: List[str]) -> bool:
    """False: one cannot be loaded, which is said."""
    global _loads
    _loads = True
    for module in modules:
        try:
            _load(module)
        except Exception as error:
            print("errand: %s cannot be loaded" % module, file=sys.stderr)
            traceback.print_exception(type(error), error, _own_frames(error.__traceback__))
            return False
    _loads = False
    return True


def _own_frames(frames: Any) -> Any:
    """Without those of this file and of the import itself: what remains begins in the module."""
    while frames and frames.tb_frame.f_globals.get("__name__", "").split(".")[0] in (__name__, "importlib"):
        frames = frames.tb_next
    return frames


def _load(module: str) -> None:
    """A file, or a name that can be imported."""
    if not module.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        importlib.import_module(module)
        return
    path = os.path.realpath(module)
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise ImportError("there is no file %s" % module)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)


def _duration_of(text: str) -> Duration:
    _seconds(text)
    return text


def _arguments(needs_modules: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m errand worker" if needs_modules else None,
        description="Runs tasks of the kind `remote` that a server gives out. The token is in ERRAND_TOKEN.")
    parser.add_argument("--url", help="of the server: http://…, https://… or unix:PATH (default: ERRAND_URL)")
    parser.add_argument("--tasks", metavar="NAME,…", help="default: all that the modules have")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="turns at once (default: 1)")
    parser.add_argument("--name", help="of the worker (default: HOST-PID)")
    parser.add_argument("--lease", type=_duration_of, default="30s", help="how long without a sign of life (default: 30s)")
    parser.add_argument("--grace", type=_duration_of, default="30s",
                        help="how long what runs may take after SIGTERM (default: 30s)")
    if needs_modules:
        parser.add_argument("modules", nargs="+", metavar="MODULE", help="a file, or a name to import")
    return parser


def _work(arguments: List[str], needs_modules: bool = False) -> int:
    asked = _arguments(needs_modules).parse_args(arguments)
    told: List[int] = []  # while there is no worker yet
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _catch_prints()
    try:
        if not _load_all(getattr(asked, "modules", [])):
            return 2
        worker = Worker(asked.url, name=asked.name, tasks=asked.tasks.split(",") if asked.tasks else None,
                        concurrency=asked.concurrency, lease=asked.lease, grace=asked.grace)  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        print("errand: %s" % error, file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    if told:
        return 0
    try:
        status = worker.run()
    except Exception:
        _logger.exception("the worker cannot start")
        return 1
    if worker.held():  # threads that no one can end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def main(arguments: Optional[List[str]] = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] != ["worker"]:
        print("usage: python3 -m errand worker --url URL MODULE…   (--help says more)", file=sys.stderr)
        return 0 if given[:1] in (["-h"], ["--help"]) else 2
    return _work(given[1:], True)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import errand  # so that the modules' `errand` is this one, and not a second

    sys.exit(errand.main())
