"""The processes of the demo: finds or installs programs, starts servers, waits for them, ends them.

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

# What is run besides Rust: each program, and the package of Debian that has it.
FOR_DEMO = {"prometheus": "prometheus", "promtool": "prometheus"}
FOR_TESTS = {**FOR_DEMO, "redis-server": "redis-server", "redis-cli": "redis-tools", "memcached": "memcached",
             "dnsmasq": "dnsmasq-base", "faketime": "faketime", "openssl": "openssl", "nginx": "nginx-light",
             "victoria-metrics": "victoria-metrics", "pip3": "python3-pip", "curl": "curl",
             "chromium-headless-shell": "chromium-headless-shell"}
# What serves is not on every user's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# Installs its arguments. No service is started, and where systemd rules none is at the next boot; one that was there before is
# left as it is.
INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 PATH="$PATH:/usr/sbin:/sbin"
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
    trap 'rm -f "$guard"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$guard"
    chmod 755 "$guard"
fi
new=
for package; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q ' installed$' || new="$new $package"
done
apt-get update -q
apt-get install -y -q --no-install-recommends "$@"
if command -v systemctl > /dev/null; then
    for package in $new; do systemctl disable -q --now "$package.service" > /dev/null 2>&1 || true; done
fi
"""
HOW_TO = ("{programs} {are} needed and {why}.\n"
          "Install Debian's packages (apt-get install {packages}), or put the programs on the PATH, and try again.")
RELEASES = "\nReleases of Prometheus, with both programs, are at https://prometheus.io/download/."


def ensure(tools, say):
    """All programs of `tools` are there, from Debian's packages if they were not; the packages' services stay off."""
    def missing():
        return [program for program in tools if shutil.which(program, path=PATH) is None]

    def give_up(why):
        lacking = missing() or wanted
        text = HOW_TO.format(programs=" and ".join(lacking), are="is" if len(lacking) == 1 else "are", why=why,
                             packages=" ".join(dict.fromkeys(tools[program] for program in lacking)))
        sys.exit(text + (RELEASES if FOR_DEMO.keys() & set(lacking) else ""))

    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        give_up("this machine has no apt-get to get them with")
    become = [] if os.geteuid() == 0 else ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    if become and shutil.which("sudo") is None:
        give_up("installing them needs root or sudo")
    packages = list(dict.fromkeys(tools[program] for program in wanted))
    say(f"no {', '.join(wanted)}: installing Debian's {', '.join(packages)} (no service is started)")
    done = subprocess.run([*become, "sh", "-c", INSTALL, "sh", *packages], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=None if sys.stdin.isatty() else subprocess.DEVNULL)
    if done.returncode != 0:
        sys.stderr.write(done.stdout.decode(errors="replace")[-3000:] + "\n")
        give_up(f"the installation failed (exit code {done.returncode})")
    if missing():
        give_up("the packages did not bring them")


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
