"""The system calls by which a process uses or changes files and peers, and the meaning of their arguments."""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from typing import NamedTuple

from kommuna.store.searches import UNTRACED_FD

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # of classic BPF
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
_X32 = 0x40000000  # a second table of calls of the same architecture
_EMPTY_PATH, _HERE = 0x1000, -100 & 0xFFFFFFFF  # AT_EMPTY_PATH, AT_FDCWD


class At(NamedTuple):
    """The position of a path among a call's arguments.

    Args:
        path: index of the path; None where a descriptor identifies the file.
        folder: index of the descriptor that the path is relative to; None for the working folder.
        optional: whether the path may be null, so that the descriptor itself identifies the file.
    """

    path: int | None
    folder: int | None = None
    optional: bool = False


class Look(NamedTuple):
    """A call that inspects a path without opening it, such as `stat`.

    Args:
        at: the position of the path.
        reveals: `size` (and all else of `stat`), `kind`, `link` or `folder`.
        flags: index of its flags, which may disable following links.
        follows: whether it follows links by default.
    """

    at: At
    reveals: str
    flags: int | None = None
    follows: bool = True


class Change(NamedTuple):
    """A call that changes names or attributes.

    Args:
        ats: the positions of the paths that it changes.
        makes: whether it fails, and changes nothing, if the path exists.
        follows: whether it changes the target of a link.
        links: the position of a file that gets another name.
    """

    ats: tuple[At, ...]
    makes: bool = False
    follows: bool = False
    links: At | None = None


_PATH, _PATH_AT = At(0), At(1, 0)
OPENS = {"open": _PATH, "creat": _PATH, "openat": _PATH_AT, "openat2": _PATH_AT}
PROGRAMS = {"execve": _PATH, "execveat": _PATH_AT}
LOOKS = {
    "stat": Look(_PATH, "size"),
    "lstat": Look(_PATH, "size", follows=False),
    "newfstatat": Look(_PATH_AT, "size", 3),
    "statx": Look(_PATH_AT, "size", 2),
    "access": Look(_PATH, "kind"),
    "faccessat": Look(_PATH_AT, "kind"),
    "faccessat2": Look(_PATH_AT, "kind", 3),
    "readlink": Look(_PATH, "link", follows=False),
    "readlinkat": Look(_PATH_AT, "link", follows=False),
    "chdir": Look(_PATH, "folder"),
}
CHANGES = {
    **dict.fromkeys(("rmdir", "unlink", "lchown", "lsetxattr", "lremovexattr"), Change((_PATH,))),
    **dict.fromkeys(("unlinkat", "fchownat"), Change((_PATH_AT,))),
    **dict.fromkeys(
        ("truncate", "chmod", "chown", "utime", "utimes", "setxattr", "removexattr"), Change((_PATH,), follows=True)
    ),
    **dict.fromkeys(
        ("fchmodat", "fchmodat2", "utimensat", "futimesat"), Change((At(1, 0, optional=True),), follows=True)
    ),
    **dict.fromkeys(("fchmod", "fchown", "fsetxattr", "fremovexattr"), Change((At(None, 0),))),
    **dict.fromkeys(("mkdir", "mknod"), Change((_PATH,), makes=True)),
    **dict.fromkeys(("mkdirat", "mknodat"), Change((_PATH_AT,), makes=True)),
    "symlink": Change((At(1),), makes=True),
    "symlinkat": Change((At(2, 1),), makes=True),
    "link": Change((At(1),), makes=True, links=At(0)),
    "linkat": Change((At(3, 2),), makes=True, links=At(1, 0)),
    "rename": Change((At(0), At(1))),
    **dict.fromkeys(("renameat", "renameat2"), Change((At(1, 0), At(3, 2)))),
}
MESSAGES = ("connect", "sendto", "sendmsg", "sendmmsg", "bind")
# After these calls, files may be opened without a traced call, or paths have another meaning.
UNTRACEABLE = ("io_uring_setup", "open_by_handle_at", "chroot", "pivot_root", "mount", "move_mount", "setns")
_ALL = (*OPENS, *PROGRAMS, *LOOKS, *CHANGES, *MESSAGES, *UNTRACEABLE)

_SAME = {"openat2": 437, "faccessat2": 439, "fchmodat2": 452, "io_uring_setup": 425, "move_mount": 429}
_X86 = {
    **_SAME,
    **{"open": 2, "stat": 4, "lstat": 6, "access": 21, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49},
    **{"execve": 59, "truncate": 76, "chdir": 80, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86},
    **{"unlink": 87, "symlink": 88, "readlink": 89, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94},
    **{"utime": 132, "mknod": 133, "pivot_root": 155, "chroot": 161, "mount": 165, "setxattr": 188, "lsetxattr": 189},
    **{"fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "utimes": 235, "openat": 257},
    **{"mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261, "newfstatat": 262, "unlinkat": 263},
    **{"renameat": 264, "linkat": 265, "symlinkat": 266, "readlinkat": 267, "fchmodat": 268, "faccessat": 269},
    **{"utimensat": 280, "open_by_handle_at": 304, "sendmmsg": 307, "setns": 308, "renameat2": 316, "execveat": 322},
    **{"statx": 332},
}
_ARM = {
    **_SAME,
    **{"setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16},
    **{"mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "mount": 40},
    **{"pivot_root": 41, "truncate": 45, "faccessat": 48, "chdir": 49, "chroot": 51, "fchmod": 52, "fchmodat": 53},
    **{"fchownat": 54, "fchown": 55, "openat": 56, "readlinkat": 78, "newfstatat": 79, "utimensat": 88, "bind": 200},
    **{"connect": 203, "sendto": 206, "sendmsg": 211, "execve": 221, "open_by_handle_at": 265, "setns": 268},
    **{"sendmmsg": 269, "renameat2": 276, "execveat": 281, "statx": 291},
}


class Architecture(NamedTuple):
    """The numbers of system calls on a machine architecture (`asm/unistd.h`)."""

    audit: int
    seccomp: int
    numbers: Mapping[str, int]

    def names(self) -> dict[int, str]:
        """Returns the names of the traced calls, by their numbers."""
        return {self.numbers[name]: name for name in _ALL if name in self.numbers}

    def program(self) -> bytes:
        """Builds a BPF program that reports the traced calls and lets all others pass.

        `sendto` is reported only if it names a peer. Inspections by descriptor are not reported for the descriptor
        itself (`fstat`) or if the runtime makes them. All calls of programs for another architecture are reported,
        because their numbers have other meanings.
        """
        traced = sorted(self.names())
        numbers = self.numbers
        fifth = [
            _instruction(_LOAD, _ARGUMENTS_AT + 4 * 8),
            _instruction(_EQUAL, 0, when_other=2),
            _instruction(_LOAD, _ARGUMENTS_AT + 4 * 8 + 4),
            _instruction(_EQUAL, 0, when_equal=1),
            _instruction(_RETURN, _NOTIFY),
            _instruction(_RETURN, _ALLOW),
        ]
        out = [
            _instruction(_LOAD, _ARCHITECTURE_AT),
            _instruction(_EQUAL, self.audit, when_equal=1),
            _instruction(_RETURN, _NOTIFY),
            _instruction(_LOAD, _NUMBER_AT),
            _instruction(_AT_LEAST, _X32, when_other=1),
            _instruction(_RETURN, _NOTIFY),
            _instruction(_EQUAL, numbers["sendto"], when_other=len(fifth)),
            *fifth,
        ]
        for name, flags in (("newfstatat", 3), ("statx", 2), ("readlinkat", 0)):
            own = [
                _instruction(_LOAD, _ARGUMENTS_AT),
                _instruction(_EQUAL, UNTRACED_FD & 0xFFFFFFFF, when_equal=3),
                _instruction(_EQUAL, _HERE, when_equal=3),
                _instruction(_LOAD, _ARGUMENTS_AT + flags * 8),
                _instruction(_ANY_BIT, _EMPTY_PATH if flags else 0, when_other=1),
                _instruction(_RETURN, _ALLOW),
                _instruction(_RETURN, _NOTIFY),
            ]
            out += [_instruction(_EQUAL, numbers[name], when_other=len(own)), *own]
        out += [_instruction(_EQUAL, number, when_equal=len(traced) - i) for i, number in enumerate(traced)]
        out += [_instruction(_RETURN, _ALLOW), _instruction(_RETURN, _NOTIFY)]
        return b"".join(out)


_ARCHITECTURES = {"x86_64": Architecture(0xC000003E, 317, _X86), "aarch64": Architecture(0xC00000B7, 277, _ARM)}


def architecture() -> Architecture | None:
    """Returns this machine's architecture; None where its calls are not known."""
    return _ARCHITECTURES.get(platform.machine())


def _instruction(code: int, value: int, *, when_equal: int = 0, when_other: int = 0) -> bytes:
    """Encodes one instruction, with the number of instructions to skip after a comparison."""
    return struct.pack("HBBI", code, when_equal, when_other, value)
