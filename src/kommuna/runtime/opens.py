"""Every file that a process and its children open, program that they start and peer that they connect or send to.

By seccomp user notifications (Linux 5.5): the kernel stops a call, tells the supervisor, and goes on with it. No
privilege is needed, and it does not matter which language or library makes the call. A call costs 20 to 120 µs: the
2,000 of an import of Polars, scikit-learn and SciPy could not be told from its noise.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog


class _Calls(NamedTuple):
    """Numbers of the calls that are told of, by architecture (`asm/unistd.h`).

    Args:
        changes: calls that change names or attributes in a folder, to the place of the path among their arguments, and
            of the folder that it is relative to; -1 for the working folder.
    """

    audit_architecture: int
    seccomp: int
    openat: int
    openat2: int
    execve: int
    execveat: int
    connect: int
    sendto: int
    sendmsg: int
    sendmmsg: int
    changes: Mapping[int, tuple[int, int]]
    open: int = -1  # only older architectures have it

    def told(self) -> list[int]:
        opens = (self.openat, self.openat2, self.execve, self.execveat, self.open)
        numbers = (*opens, self.connect, self.sendmsg, self.sendmmsg, *self.changes)
        return [number for number in numbers if number >= 0]


_X86_CHANGES = {
    # truncate, rename, mkdir, rmdir, link, unlink, symlink, chmod
    **{76: (0, -1), 82: (1, -1), 83: (0, -1), 84: (0, -1), 86: (1, -1), 87: (0, -1), 88: (1, -1), 90: (0, -1)},
    # mkdirat, unlinkat, renameat, linkat, symlinkat, fchmodat, utimensat, renameat2
    **{258: (1, 0), 263: (1, 0), 264: (3, 2), 265: (3, 2), 266: (2, 1), 268: (1, 0), 280: (1, 0), 316: (3, 2)},
}
# mkdirat, unlinkat, symlinkat, linkat, renameat, truncate, fchmodat, utimensat, renameat2
_ARM_CHANGES = {
    **{34: (1, 0), 35: (1, 0), 36: (2, 1), 37: (3, 2), 38: (3, 2), 45: (0, -1), 53: (1, 0), 88: (1, 0), 276: (3, 2)},
}
_MAKING = {"x86_64": (83, 86, 88, 258, 265, 266), "aarch64": (34, 36, 37)}  # mkdir, link, symlink and their like
_CALLS = {
    "x86_64": _Calls(0xC000003E, 317, 257, 437, 59, 322, 42, 44, 46, 307, _X86_CHANGES, 2),
    "aarch64": _Calls(0xC00000B7, 277, 56, 437, 221, 281, 203, 206, 211, 269, _ARM_CHANGES),
}
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # of classic BPF
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_CALL_NUMBER_AT, _ARCHITECTURE_AT, _FIFTH_ARGUMENT_AT = 0, 4, 48  # in struct seccomp_data
_MESSAGE = struct.Struct("=QI52x")  # struct mmsghdr: of its struct msghdr where the peer's address is, and its length
_MOST_MESSAGES = 1024  # of one call, which the kernel takes
_RECEIVE, _SEND, _IS_VALID, _CONTINUE = 0xC0502100, 0xC0182101, 0x40082102, 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_AT_FDCWD = -100
_LONGEST_PATH = 4096
_PROBE = b"kommuna"  # what the supervisor must be able to read in the child, before the step runs

log = structlog.get_logger()
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Opened:
    """A file that is about to be opened, or a program that is about to be started.

    Args:
        path: absolute, as it was asked for.
        flags: of `open`; None for a program.
    """

    path: str
    flags: int | None


@dataclass(frozen=True)
class Connected:
    """A peer that is about to be connected to, or to be sent a message that names it.

    Args:
        host: its IP address, or the path of a socket of this machine; `@` before a name that is no path.
        port: 0 for the latter.
        sends: whether it is sent a message.
    """

    host: str
    port: int
    sends: bool = False


@dataclass(frozen=True)
class Changed:
    """A path that is about to be made, removed, renamed to, or given other attributes.

    Args:
        makes: whether the call fails, and changes nothing, where the path is there already.
    """

    path: str
    makes: bool


Call = Opened | Connected | Changed


def listen() -> int:
    """Makes the kernel tell of this process's calls from now on, and of those of its children.

    Returns:
        The file descriptor that the supervisor reads them from.
    Raises:
        OSError: this kernel, or what confines the process, does not offer it.
    """
    calls = _CALLS.get(platform.machine())
    if calls is None:
        raise OSError(errno.ENOSYS, f"not on {platform.machine()}")
    program = _program(calls)
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = int(_libc.syscall(calls.seccomp, _SET_MODE_FILTER, _NEW_LISTENER, described))
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return listener


class Opens:
    """Hears of a child's calls, in a thread of its supervisor.

    Args:
        heard: called for each, while the call waits.
    """

    def __init__(self, heard: Callable[[Call], None]) -> None:
        self._heard = heard
        self._calls = _CALLS.get(platform.machine())
        self._ours, self._childs = socket.socketpair()
        self._closing = os.eventfd(0)
        self._thread: threading.Thread | None = None
        self.missing = ""  # why nothing is heard

    def in_child(self) -> None:
        """What the child calls, once it is forked."""
        self._ours.close()
        made: queue.SimpleQueue[int] = queue.SimpleQueue()
        # Handing it over is a call that is told of, of all threads but those that are there already.
        probe = ctypes.create_string_buffer(_PROBE)
        said = f"{os.getpid()} {ctypes.addressof(probe)}".encode()
        hands = threading.Thread(target=lambda: socket.send_fds(self._childs, [said], [made.get()]), daemon=True)
        hands.start()
        try:
            listener = listen()
        except OSError as error:
            self._childs.send(f"{error.strerror}".encode())
        else:
            made.put(listener)
            hands.join()
            os.close(listener)
            self._childs.recv(1)  # until the supervisor has looked at the probe
        self._childs.close()

    def in_supervisor(self) -> None:
        """What the supervisor calls, once the child is forked: waits until the child has called its part."""
        self._childs.close()
        said, descriptors, _, _ = socket.recv_fds(self._ours, 200, 1)
        if not descriptors:
            self._ours.close()
            self.missing = said.decode(errors="replace") or "the process ended"
            return
        try:
            self._probe(*map(int, said.split()))
        except OSError as error:
            self.missing = f"its memory cannot be read: {error.strerror}"
        self._ours.close()
        self._thread = threading.Thread(target=self._serve, args=(descriptors[0],), daemon=True, name="opens")
        self._thread.start()

    def close(self) -> None:
        """Hears no more: a process of the child's that is still there can open nothing from now on."""
        if self._thread is not None:
            os.eventfd_write(self._closing, 1)
            self._thread.join()

    @staticmethod
    def _probe(pid: int, address: int) -> None:
        """Raises what would keep this process from reading what the child's calls are given."""
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
                number, pid, _, call, _, _, *arguments = _NOTIFICATION.unpack(notification)
                try:
                    self._tell(pid, call, arguments)
                except Exception as error:
                    if _is_waiting(listener, number):  # else its process has ended, and the call is never made
                        log.exception("step.unheard_call")
                        self.missing = f"{type(error).__name__}: {error}"
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(number, 0, 0, _CONTINUE))
        except Exception as error:
            log.exception("step.unheard_calls")
            self.missing = f"{type(error).__name__}: {error}"
        finally:
            os.close(listener)  # from now on such calls of the child fail: none is missed

    def _tell(self, pid: int, call: int, arguments: list[int]) -> None:
        calls = self._calls
        assert calls is not None
        if call == calls.connect:
            self._tell_peer(pid, arguments[1], arguments[2], sends=False)
            return
        if call == calls.sendto:
            self._tell_peer(pid, arguments[4], arguments[5], sends=True)
            return
        if call in (calls.sendmsg, calls.sendmmsg):
            number = 1 if call == calls.sendmsg else min(arguments[2] & 0xFFFFFFFF, _MOST_MESSAGES)
            for at in range(arguments[1], arguments[1] + number * _MESSAGE.size, _MESSAGE.size):
                message = _memory(pid, at, 12).ljust(_MESSAGE.size, b"\0")
                self._tell_peer(pid, *_MESSAGE.unpack(message), sends=True)
            return
        if (places := calls.changes.get(call)) is not None:
            path_at, folder_at = places
            folder = _AT_FDCWD if folder_at < 0 else ctypes.c_int(arguments[folder_at]).value
            if (path := _path(pid, folder, arguments[path_at])) is not None:
                self._heard(Changed(path, makes=call in _MAKING[platform.machine()]))
            return
        relative_to, address, flags = _AT_FDCWD, arguments[0], arguments[1]
        if call in (calls.openat, calls.openat2, calls.execveat):
            relative_to, address, flags = ctypes.c_int(arguments[0]).value, arguments[1], arguments[2]
        if call == calls.openat2:  # struct open_how begins with the flags
            flags = int.from_bytes(_memory(pid, flags, 8), "little")
        is_program = call in (calls.execve, calls.execveat)
        if (path := _path(pid, relative_to, address)) is not None:
            self._heard(Opened(path, None if is_program else flags))

    def _tell_peer(self, pid: int, address: int, length: int, *, sends: bool) -> None:
        """Tells of the peer whose address is in a process's memory, if one is."""
        peer = _peer(_memory(pid, address, min(length, 128)), sends=sends) if address and length else None
        if peer is not None:
            self._heard(peer)


def _program(calls: _Calls) -> bytes:
    """A BPF program that lets all calls pass but those that are told of; of `sendto` those that name a peer."""
    told = calls.told()
    out = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, calls.audit_architecture, when_equal=1),
        _instruction(_RETURN, _ALLOW),
        _instruction(_LOAD, _CALL_NUMBER_AT),
        _instruction(_EQUAL, calls.sendto, when_other=6),
        _instruction(_LOAD, _FIFTH_ARGUMENT_AT),
        _instruction(_EQUAL, 0, when_other=2),
        _instruction(_LOAD, _FIFTH_ARGUMENT_AT + 4),
        _instruction(_EQUAL, 0, when_equal=1),
        _instruction(_RETURN, _NOTIFY),
        _instruction(_RETURN, _ALLOW),
        *(_instruction(_EQUAL, number, when_equal=len(told) - i) for i, number in enumerate(told)),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _NOTIFY),
    ]
    return b"".join(out)


def _instruction(code: int, value: int, *, when_equal: int = 0, when_other: int = 0) -> bytes:
    """One instruction, and how many it skips after a comparison."""
    return struct.pack("HBBI", code, when_equal, when_other, value)


class _Range(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _memory(pid: int, address: int, length: int) -> bytes:
    """Up to so many bytes of another process's memory; those of the first page where the next one is not there.

    Returns:
        Nothing where nothing is at the address: the kernel finds nothing there either, and the call fails.
    Raises:
        OSError: it may not be read, or the process is gone.
    """
    for wanted in (length, min(length, 4096 - address % 4096)):
        buffer = ctypes.create_string_buffer(wanted)
        here = _Range(ctypes.cast(buffer, ctypes.c_void_p), wanted)
        there = _Range(ctypes.c_void_p(address), wanted)
        read = _libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        if read > 0:
            return buffer.raw[:read]
        if (number := ctypes.get_errno()) != errno.EFAULT:
            raise OSError(number, os.strerror(number))
    return b""


def _path(pid: int, folder: int, address: int) -> str | None:
    """The absolute path that a call is given; None where it is given none, so that it fails.

    Raises:
        OSError: it cannot be read.
    """
    raw, end, _ = _memory(pid, address, _LONGEST_PATH).partition(b"\0")
    path = os.fsdecode(raw)
    if not end or path.startswith("/"):
        return path if end else None
    try:
        return os.path.normpath(os.path.join(_folder(pid, folder), path))  # noqa: PTH118
    except FileNotFoundError:  # no such descriptor: the call fails
        return None


def _folder(pid: int, descriptor: int) -> str:
    """What a process's descriptor stands for, or its working folder."""
    return os.readlink(f"/proc/{pid}/cwd" if descriptor == _AT_FDCWD else f"/proc/{pid}/fd/{descriptor}")  # noqa: PTH115


def _is_waiting(listener: int, number: int) -> bool:
    """Whether the call of a notification still waits."""
    try:
        fcntl.ioctl(listener, _IS_VALID, number.to_bytes(8, "little"))
    except OSError:
        return False
    return True


def _peer(address: bytes, *, sends: bool) -> Connected | None:
    """A peer; None for the kernel itself."""
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
