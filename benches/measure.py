"""What every benchmark needs: a process with its cost, an environment that is the same everywhere, the machine in words."""

import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(
    os.environ.get("MLBUILD_CI_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mlbuild-ci"
)


class Run:
    """One process with those it waited for: wall and CPU seconds, peak memory in KiB, bytes written, standard output."""

    def __init__(self, command, directory, environment):
        with tempfile.TemporaryFile("w+") as errors:
            begun = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )
            self.stdout = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            self.seconds = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu = usage.ru_utime + usage.ru_stime
            self.kib = usage.ru_maxrss
            self.written = usage.ru_oublock * 512
            if process.returncode != 0:
                errors.seek(0)
                sys.exit(f"{' '.join(map(str, command))}: exit status {process.returncode}\n{errors.read()}")


def environment(**more):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in {"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    }
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **kept, **{k: str(v) for k, v in more.items()}}


def bytes_below(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


class Costs:
    """Several runs of one contestant. What takes two commands is given as two runs."""

    def __init__(self):
        self.rounds = []

    def add(self, *runs):
        self.rounds.append(runs)

    def median(self, of):
        return statistics.median(of(runs) for runs in self.rounds)

    @property
    def seconds(self):
        return self.median(lambda runs: sum(run.seconds for run in runs))

    @property
    def cpu(self):
        return self.median(lambda runs: sum(run.cpu for run in runs))

    @property
    def mib(self):
        return self.median(lambda runs: max(run.kib for run in runs)) / 1024

    @property
    def written(self):
        return self.median(lambda runs: sum(run.written for run in runs))


def machine(program, uv):
    """Lines of Markdown."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))
    said = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return [
        f"- {cpu}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB, Linux {platform.release()}",
        f"- {said('stat', '-f', '-c', '%T', CACHE)} file system, load {os.getloadavg()[0]:.2f} at the start",
        f"- {said(program, '--version')}, {said(uv, '--version')}, commit {said('git', '-C', ROOT, 'rev-parse', '--short', 'HEAD')}",
    ]
