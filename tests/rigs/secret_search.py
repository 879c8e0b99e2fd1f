"""Code of a hostile DAG file that searches for secrets wherever its process can read."""

SEARCH = '''
import os


def in_memory(pid, wanted):
    """Returns places in the memory of this process, or of other processes of the user, that contain it."""
    found = 0
    try:
        maps = open(f"/proc/{pid}/maps").read().splitlines()
        memory = open(f"/proc/{pid}/mem", "rb", 0)
    except OSError:
        return 0
    for line in maps:
        span, rights, *_, name = [*line.split(), ""] if len(line.split()) < 6 else line.split()
        if "r" not in rights or name.startswith("[v"):
            continue
        begin, end = (int(part, 16) for part in span.split("-"))
        try:
            memory.seek(begin)
            found += len(wanted.findall(memory.read(end - begin)))
        except (OSError, OverflowError, ValueError):
            pass
    return found


def in_environments(wanted):
    """Returns this process and its ancestors up to the parser or processor whose initial environment contains it."""
    found, pid = 0, os.getpid()
    while pid > 1:
        try:
            found += len(wanted.findall(open(f"/proc/{pid}/environ", "rb").read()))
            status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status") if ":" in line)
        except OSError:
            break
        pid = int(status["PPid"])
        if not in_family(pid):
            break
    return found


def in_family(pid):
    try:
        command = open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError:
        return False
    return b"isolation" in command or b"forkserver" in command or b"airflow" in command


def in_files(wanted):
    """Returns files that the environment or open descriptors of this process refer to."""
    found = 0
    folders = [value for name, value in os.environ.items() if value.startswith("/") and "PATH" not in name]
    places = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")] + folders
    for place in places:
        target = os.path.realpath(place)
        files = [os.path.join(target, name) for name in os.listdir(target)] if os.path.isdir(target) else [target]
        for path in files:
            if os.path.isfile(path) and os.path.getsize(path) < 10_000_000:
                try:
                    found += len(wanted.findall(open(path, "rb").read() + path.encode()))
                except OSError:
                    pass
    return found
'''
