"""The processes of the demo: finds or installs Prometheus, starts servers, waits for them, ends them.

Need: a pair of servers that is up when the demo says so, and gone when the demo is gone, however it ends.
Rule: every wait has an end; a child that dies shows its own last words; no service of the machine is touched.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$guard"
    chmod 755 "$guard"
fi
apt-get update -q
apt-get install -y -q --no-install-recommends prometheus
if command -v systemctl > /dev/null; then systemctl disable -q prometheus.service > /dev/null 2>&1 || true; fi
"""
HOW_TO = ("demo: prometheus and promtool are needed and {why}.\n"
          "Install Debian's package (apt-get install prometheus), or put both programs of a release from\n"
          "https://prometheus.io/download/ on the PATH, and run the demo again.")


def ensure_prometheus(say):
    """Both programs on the PATH, from Debian's package if they are not there; the package's service stays off."""
    def missing():
        return [name for name in ("prometheus", "promtool") if shutil.which(name) is None]

    if not missing():
        return
    if shutil.which("apt-get") is None:
        sys.exit(HOW_TO.format(why="this machine has no apt-get to get them with"))
    become = [] if os.geteuid() == 0 else ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    if become and shutil.which("sudo") is None:
        sys.exit(HOW_TO.format(why="installing them needs root or sudo"))
    say("no prometheus on the PATH: installing Debian's package (its service stays off)")
    done = subprocess.run([*become, "sh", "-c", INSTALL], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=None if sys.stdin.isatty() else subprocess.DEVNULL)
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace")[-3000:] + "\n")
        sys.exit(HOW_TO.format(why=f"the installation failed (exit code {done.returncode})"))
    if missing():
        sys.exit(HOW_TO.format(why=f"{' and '.join(missing())} is still not on the PATH"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent():
    """Linux: the child gets SIGTERM when the demo is gone, even by SIGKILL. Elsewhere: nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Child:
    """A server in a session of its own (Ctrl-C reaches only the demo), with its output in a log file."""

    def __init__(self, name, command, log):
        self.name, self.log = name, log
        try:
            with log.open("wb") as file:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                                start_new_session=True, preexec_fn=die_with_parent)
        except OSError as error:
            sys.exit(f"demo: cannot start {command[0]}: {error.strerror}")

    def last_words(self):
        return "\n".join("    " + line for line in self.log.read_text(errors="replace").splitlines()[-20:])

    def wait_ready(self, url, seconds):
        """Returns when `url` answers 200; ends the demo when the child dies or the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                sys.exit(f"demo: {self.name} ended with code {self.process.returncode}:\n{self.last_words()}")
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.1)
        sys.exit(f"demo: {self.name} was not ready after {seconds} s:\n{self.last_words()}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
