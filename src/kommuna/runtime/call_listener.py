"""Observes every use of files, programs and peers by a process and its children, and every change of files.

It uses seccomp user notifications (Linux 5.5): the kernel stops a call, notifies the supervisor, and continues it. This
needs no privilege, and works for any language and library. A call costs 20 to 120 µs: the cost of the 25,000 calls that
import Polars and scikit-learn was within the noise.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import queue
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from kommuna.runtime.calls import CHANGES, LOOKS, OPENS, PROGRAMS, UNTRACEABLE, At, architecture

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_MESSAGE = struct.Struct("=QI52x")  # struct mmsghdr: the peer's address and its length
_MAX_MESSAGES = 1024  # the kernel's limit for one call
_RECEIVE, _SEND, _IS_VALID, _CONTINUE = 0xC0502100, 0xC0182101, 0x40082102, 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_LONGEST_PATH = 4096
_PROBE = b"kommuna"  # the supervisor must be able to read it in the child's memory before the step runs

log = structlog.get_logger()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Opened:
    """A file that is about to be opened, or a program that is about to be started.

    Args:
        path: the absolute path, links not resolved.
        flags: the flags of `open`; None for a program.
        process: id of the process or thread that makes the call.
    """

    path: str
    flags: int | None
    process: int


@dataclass(frozen=True)
class Inspected:
    """A path that is about to be inspected without opening it.

    Args:
        path: the absolute path, links not resolved.
        reveals: what the call returns: `size`, `kind`, `link` (whether it is one), or `folder` (it is entered).
        follows: whether the target of a link is inspected, and not the link.
        process: id of the process or thread that makes the call.
    """

    path: str
    reveals: str
    follows: bool
    process: int


@dataclass(frozen=True)
class Changed:
    """A path that is about to be created, removed, renamed, or given other attributes.

    Args:
        path: the absolute path, links not resolved.
        makes: whether the call fails, and changes nothing, if the path exists.
        follows: whether the target of a link is changed.
        process: id of the process or thread that makes the call.
    """

    path: str
    makes: bool
    follows: bool
    process: int


@dataclass(frozen=True)
class Connected:
    """A peer that the process is about to connect to, or to send a message to.

    Args:
        host: its IP address, or the path of a Unix socket; an abstract socket's name begins with `@`.
        port: 0 for a Unix socket.
        sends: whether a message is sent to it.
    """

    host: str
    port: int
    sends: bool = False


@dataclass(frozen=True)
class Listening:
    """A port or socket name that the process, and not the kernel, chose to listen at."""

    at: str


@dataclass(frozen=True)
class Untraceable:
    """A call after which the process may open files without being observed."""

    call: str


Call = Opened | Inspected | Changed | Connected | Listening | Untraceable


def listen() -> int:
    """Makes the kernel report calls of this process and its children from now on.

    Returns:
        The file descriptor that the supervisor reads them from.

    Raises:
        OSError: the kernel or a sandbox does not allow it.
    """
    machine = architecture()
    if machine is None:
        raise OSError(errno.ENOSYS, f"not on {platform.machine()}")
    program = machine.program()
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = int(_libc.syscall(machine.seccomp, _SET_MODE_FILTER, _NEW_LISTENER, described))
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return listener


class CallListener:
    """Receives a child's calls in a thread of its supervisor.

    Args:
        on_call: called for each call while it waits.
    """

    def __init__(self, on_call: Callable[[Call], None]) -> None:
        self._on_call = on_call
        machine = architecture()
        self._audit, self._names = (machine.audit, machine.names()) if machine else (0, {})
        self._supervisor_socket, self._child_socket = socket.socketpair()
        self._closing = os.eventfd(0)
        self._thread: threading.Thread | None = None
        self.fault = ""  # why calls cannot be received; empty if they can

    def start_in_child(self) -> None:
        """Starts the listener's part in the child, after the fork."""
        self._supervisor_socket.close()
        os.close(self._closing)
        handed: queue.SimpleQueue[int] = queue.SimpleQueue()
        # Sending the listener is itself a traced call, except in threads that are already running.
        probe = ctypes.create_string_buffer(_PROBE)
        message = f"{os.getpid()} {ctypes.addressof(probe)}".encode()
        sender = threading.Thread(
            target=lambda: socket.send_fds(self._child_socket, [message], [handed.get()]), daemon=True
        )
        sender.start()
        try:
            listener = listen()
        except OSError as error:
            self._child_socket.send(f"{error.strerror}".encode())
        else:
            handed.put(listener)
            sender.join()
            os.close(listener)
            self._child_socket.recv(1)  # until the supervisor has looked at the probe
        self._child_socket.close()

    def start_in_supervisor(self) -> None:
        """Starts the listener's part in the supervisor, after the fork; waits until the child has started its own."""
        self._child_socket.close()
        message, descriptors, _, _ = socket.recv_fds(self._supervisor_socket, 200, 1)
        if not descriptors:
            self._supervisor_socket.close()
            self.fault = message.decode(errors="replace") or "the process ended"
            return
        try:
            self._probe(*map(int, message.split()))
        except OSError as error:
            self.fault = f"its memory cannot be read: {error.strerror}"
        self._supervisor_socket.close()
        self._thread = threading.Thread(target=self._serve, args=(descriptors[0],), daemon=True, name="call-listener")
        self._thread.start()

    def close(self) -> None:
        """Stops receiving calls. Remaining processes of the child cannot open anything from now on."""
        if self._thread is not None:
            os.eventfd_write(self._closing, 1)
            self._thread.join()
        os.close(self._closing)

    @staticmethod
    def _probe(pid: int, address: int) -> None:
        """Checks that this process can read the arguments of the child's calls; raises OSError if not."""
        _folder(pid, _AT_FDCWD)
        if _memory(pid, address, len(_PROBE)) != _PROBE:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def _serve(self, listener: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._closing, select.POLLIN)
        notification = bytearray(_NOTIFICATION.size)
        try:
            while all(fd == listener and events == select.POLLIN for fd, events in poll.poll()):
                notification[:] = bytes(_NOTIFICATION.size)
                try:
                    fcntl.ioctl(listener, _RECEIVE, notification)
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.EINTR):  # its process has just ended
                        continue
                    raise
                number, pid, _, call, audit, _, *arguments = _NOTIFICATION.unpack(notification)
                try:
                    self._report(pid, self._names.get(call, "") if audit == self._audit else "", arguments)
                except Exception as error:
                    if _is_waiting(listener, number):  # else its process has ended, and the call is never made
                        if not self.fault:  # the next ones would say the same, for thousands of calls
                            log.exception("step.call_not_recorded")
                        self.fault = f"{type(error).__name__}: {error}"
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(number, 0, 0, _CONTINUE))
        except Exception as error:
            log.exception("step.call_listener_failed")
            self.fault = f"{type(error).__name__}: {error}"
        finally:
            os.close(listener)  # from now on such calls of the child fail: none is missed

    def _report(self, pid: int, call: str, arguments: list[int]) -> None:
        if call in OPENS or call in PROGRAMS:
            self._report_open(pid, call, arguments)
        elif (look := LOOKS.get(call)) is not None:
            path = _path(pid, look.at, arguments)
            if path is not None:
                follows = look.follows and (look.flags is None or not arguments[look.flags] & _AT_SYMLINK_NOFOLLOW)
                self._on_call(Inspected(path, look.reveals, follows, pid))
        elif (change := CHANGES.get(call)) is not None:
            source = _path(pid, change.links, arguments) if change.links else None
            if source is not None:
                self._on_call(Opened(source, os.O_RDONLY, pid))
            for path in [_path(pid, at, arguments) for at in change.ats]:
                if path is not None:
                    self._on_call(Changed(path, change.makes, change.follows, pid))
        elif call in ("connect", "bind"):
            self._report_peer(pid, arguments[1], arguments[2], sends=False, binds=call == "bind")
        elif call == "sendto":
            self._report_peer(pid, arguments[4], arguments[5], sends=True)
        elif call in ("sendmsg", "sendmmsg"):
            number = 1 if call == "sendmsg" else min(arguments[2] & 0xFFFFFFFF, _MAX_MESSAGES)
            for at in range(arguments[1], arguments[1] + number * _MESSAGE.size, _MESSAGE.size):
                message = _memory(pid, at, 12).ljust(_MESSAGE.size, b"\0")
                self._report_peer(pid, *_MESSAGE.unpack(message), sends=True)
        else:
            self._on_call(Untraceable(call if call in UNTRACEABLE else "a program for another kind of machine"))

    def _report_open(self, pid: int, call: str, arguments: list[int]) -> None:
        """Reports the file or program that a call opens or starts."""
        path = _path(pid, OPENS.get(call) or PROGRAMS[call], arguments)
        if path is None:
            return
        if call in PROGRAMS:
            flags = None
        elif call == "creat":
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        elif call == "openat2":  # struct open_how begins with the flags
            flags = int.from_bytes(_memory(pid, arguments[2], 8), "little")
        else:
            flags = arguments[1 if call == "open" else 2]
        self._on_call(Opened(path, flags, pid))

    def _report_peer(self, pid: int, address: int, length: int, *, sends: bool, binds: bool = False) -> None:
        """Reports the peer whose address is in a process's memory, if there is one."""
        peer = _peer(_memory(pid, address, min(length, 128)), sends=sends) if address and length else None
        if peer is None:
            return
        if not binds:
            self._on_call(peer)
        elif peer.port or peer.host.startswith("@"):
            self._on_call(Listening(str(peer.port or peer.host)))
        else:
            self._on_call(Changed(_joined(pid, _AT_FDCWD, peer.host), makes=True, follows=False, process=pid))


def _memory(pid: int, address: int, length: int) -> bytes:
    """Reads up to `length` bytes of another process's memory; less if the next page is not mapped.

    By its file in /proc: `process_vm_readv` is refused in pods, by the seccomp profile of container runtimes.

    Returns:
        The bytes; empty if the address is not mapped. The call then fails in the kernel too.

    Raises:
        OSError: reading is not permitted, or the process has ended.
    """
    if address >> 63:  # beyond what a file's offset may be, and no address of a process
        return b""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(memory, length, address)
    except OSError as error:
        if error.errno == errno.EIO:  # not mapped
            return b""
        raise
    finally:
        os.close(memory)


def _path(pid: int, at: At, arguments: list[int]) -> str | None:
    """Reads the absolute path in a call's arguments; None if there is none, so that the call fails or means no file.

    Raises:
        OSError: the process's memory cannot be read.
    """
    folder = _AT_FDCWD if at.folder is None else ctypes.c_int(arguments[at.folder]).value
    raw, end = b"", b"\0"
    if at.path is not None and (arguments[at.path] or not at.optional):
        raw, end, _ = _memory(pid, arguments[at.path], _LONGEST_PATH).partition(b"\0")
    if not end:
        return None
    try:
        path = _joined(pid, folder, os.fsdecode(raw))
    except FileNotFoundError:  # no such descriptor: the call fails
        return None
    return (
        path if path.startswith("/") and not path.endswith(" (deleted)") else None
    )  # else a pipe, or a file without a name


def _joined(pid: int, folder: int, path: str) -> str:
    """Joins a path to the folder of a descriptor; returns the folder itself where the path is empty."""
    if path.startswith("/"):
        return path
    return f"{_folder(pid, folder)}/{path}" if path else _folder(pid, folder)


def _folder(pid: int, descriptor: int) -> str:
    """Returns the path of a process's descriptor, or of its working folder."""
    return os.readlink(f"/proc/{pid}/cwd" if descriptor == _AT_FDCWD else f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115


def _is_waiting(listener: int, number: int) -> bool:
    """Whether the call of a notification is still waiting."""
    try:
        fcntl.ioctl(listener, _IS_VALID, number.to_bytes(8, "little"))
    except OSError:
        return False
    return True


def _peer(address: bytes, *, sends: bool) -> Connected | None:
    """Decodes the address of a peer; None for the kernel itself."""
    family = int.from_bytes(address[:2], "little")
    if family == socket.AF_UNIX:
        name = address[2:]
        path = name.replace(b"\0", b"@") if name.startswith(b"\0") else name.partition(b"\0")[0]  # as in /proc/net/unix
        return Connected(os.fsdecode(path), 0, sends) if path else None
    if family not in (socket.AF_INET, socket.AF_INET6) or len(address) < 8:
        return None
    port = int.from_bytes(address[2:4], "big")
    raw = address[4:8] if family == socket.AF_INET else address[8:24]
    host = socket.inet_ntop(family, raw).removeprefix("::ffff:")
    return Connected(host, port, sends) if port else None
