"""Every use that a process and its children make of files, programs and peers, and every change of files.

By seccomp user notifications (Linux 5.5): the kernel stops a call, tells the supervisor, and goes on with it. No
privilege is needed, and it does not matter which language or library makes the call. A call costs 20 to 120 µs: the
25,000 of an import of Polars and scikit-learn could not be told from its noise.
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

from kommuna.runtime.calls import BLINDING, CHANGES, LOOKS, OPENS, PROGRAMS, At, architecture

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_MESSAGE = struct.Struct("=QI52x")  # struct mmsghdr: of its struct msghdr where the peer's address is, and its length
_MOST_MESSAGES = 1024  # of one call, which the kernel takes
_RECEIVE, _SEND, _IS_VALID, _CONTINUE = 0xC0502100, 0xC0182101, 0x40082102, 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_RESPONSE = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
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
        process: the process, or its thread, that asks.
    """

    path: str
    flags: int | None
    process: int


@dataclass(frozen=True)
class Looked:
    """A path that is about to be looked at.

    Args:
        tells: what the look tells: `size`, `kind`, `link` (whether it is one), or `folder` (which is gone to).
        follows: whether it tells of what a link leads to, and not of the link.
    """

    path: str
    tells: str
    follows: bool
    process: int


@dataclass(frozen=True)
class Changed:
    """A path that is about to be made, removed, renamed, or given other attributes.

    Args:
        makes: whether the call fails, and changes nothing, where the path is there already.
        follows: whether what a link leads to is changed.
    """

    path: str
    makes: bool
    follows: bool
    process: int


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
class Listening:
    """A port, or name of a socket, that the process chose to be spoken to at, and not the kernel for it."""

    at: str


@dataclass(frozen=True)
class Blinded:
    """A call after which what the process opens is not told."""

    call: str


Call = Opened | Looked | Changed | Connected | Listening | Blinded


def listen() -> int:
    """Makes the kernel tell of this process's calls from now on, and of those of its children.

    Returns:
        The file descriptor that the supervisor reads them from.
    Raises:
        OSError: this kernel, or what confines the process, does not offer it.
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


class Opens:
    """Hears of a child's calls, in a thread of its supervisor.

    Args:
        heard: called for each, while the call waits.
    """

    def __init__(self, heard: Callable[[Call], None]) -> None:
        self._heard = heard
        machine = architecture()
        self._audit, self._names = (machine.audit, machine.names()) if machine else (0, {})
        self._ours, self._childs = socket.socketpair()
        self._closing = os.eventfd(0)
        self._thread: threading.Thread | None = None
        self.missing = ""  # why nothing is heard

    def in_child(self) -> None:
        """What the child calls, once it is forked."""
        self._ours.close()
        os.close(self._closing)
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
        os.close(self._closing)

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
                number, pid, _, call, audit, _, *arguments = _NOTIFICATION.unpack(notification)
                try:
                    self._tell(pid, self._names.get(call, "") if audit == self._audit else "", arguments)
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

    def _tell(self, pid: int, call: str, arguments: list[int]) -> None:
        if call in OPENS or call in PROGRAMS:
            self._tell_open(pid, call, arguments)
        elif (look := LOOKS.get(call)) is not None:
            path = _path(pid, look.at, arguments)
            if path is not None:
                follows = look.follows and (look.flags is None or not arguments[look.flags] & _AT_SYMLINK_NOFOLLOW)
                self._heard(Looked(path, look.tells, follows, pid))
        elif (change := CHANGES.get(call)) is not None:
            source = _path(pid, change.links, arguments) if change.links else None
            if source is not None:
                self._heard(Opened(source, os.O_RDONLY, pid))
            for path in [_path(pid, at, arguments) for at in change.ats]:
                if path is not None:
                    self._heard(Changed(path, change.makes, change.follows, pid))
        elif call in ("connect", "bind"):
            self._tell_peer(pid, arguments[1], arguments[2], sends=False, binds=call == "bind")
        elif call == "sendto":
            self._tell_peer(pid, arguments[4], arguments[5], sends=True)
        elif call in ("sendmsg", "sendmmsg"):
            number = 1 if call == "sendmsg" else min(arguments[2] & 0xFFFFFFFF, _MOST_MESSAGES)
            for at in range(arguments[1], arguments[1] + number * _MESSAGE.size, _MESSAGE.size):
                message = _memory(pid, at, 12).ljust(_MESSAGE.size, b"\0")
                self._tell_peer(pid, *_MESSAGE.unpack(message), sends=True)
        else:
            self._heard(Blinded(call if call in BLINDING else "a program for another kind of machine"))

    def _tell_open(self, pid: int, call: str, arguments: list[int]) -> None:
        """Tells of the file or program that a call is given."""
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
        self._heard(Opened(path, flags, pid))

    def _tell_peer(self, pid: int, address: int, length: int, *, sends: bool, binds: bool = False) -> None:
        """Tells of the peer whose address is in a process's memory, if one is."""
        peer = _peer(_memory(pid, address, min(length, 128)), sends=sends) if address and length else None
        if peer is None:
            return
        if not binds:
            self._heard(peer)
        elif peer.port or peer.host.startswith("@"):
            self._heard(Listening(str(peer.port or peer.host)))
        else:
            self._heard(Changed(_joined(pid, _AT_FDCWD, peer.host), makes=True, follows=False, process=pid))


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


def _path(pid: int, at: At, arguments: list[int]) -> str | None:
    """The absolute path that a call is given; None where it is given none, so that it fails or means no file.

    Raises:
        OSError: it cannot be read.
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
    """A path that is relative to a folder's descriptor; the folder itself where it is empty."""
    if path.startswith("/"):
        return path
    return f"{_folder(pid, folder)}/{path}" if path else _folder(pid, folder)


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
