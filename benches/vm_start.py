#!/usr/bin/env python3
"""From no power to the first login: `charly vm start` beside plain QEMU and a loop of `ssh`, on the same machine, in turns.

    benches/vm_start.py NAME                 # a machine of yours that can be stopped, with a key of its own and `network: {backend: qemu}`
    benches/vm_start.py NAME --rounds 9
    benches/vm_start.py NAME --together      # where others are at work too: both wait for the same start, which charly gives

Both start the same QEMU with the same arguments: charly's own, read from the machine as it runs. The floor is what somebody would write who
has nothing: start it, then `ssh … true` with a pause of a tenth of a second until it succeeds. For charly, ready is what `vm start` waits for.
In between the machine is shut down as its power button does it, and nothing is measured. The least the two need differs little: read the
difference of the medians, of which the promise is that it is at most a second.

Needs charly (--charly, else the one in PATH), QEMU, and the machine's ssh.
"""
import argparse, concurrent.futures, json, os, pathlib, statistics, subprocess, sys, time


def run(*words: str) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Machine:
    def __init__(self, charly: str, name: str, timeout: int):
        self.charly, self.name, self.timeout = charly, name, timeout
        shown = json.loads(run(charly, "vm", "show", name, "--format", "json").splitlines()[0])["item"]
        self.endpoint, self.home = shown["endpoint"], pathlib.Path(shown["state"]["disk_path"]).parent
        if not self.endpoint["identity"]:
            raise SystemExit(f"{name} has no key of its own")

    def arguments(self) -> list[str]:
        """What QEMU was started with; the machine must run."""
        pid = int((self.home / "pid").read_text())
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        return [os.readlink(f"/proc/{pid}/exe"), *(word.decode() for word in words[1:])]

    def stop(self):
        run(self.charly, "vm", "stop", self.name, "--shutdown-timeout", str(self.timeout))

    def by_charly(self) -> float:
        began = time.monotonic()
        run(self.charly, "vm", "start", self.name, "--timeout", str(self.timeout))
        return time.monotonic() - began

    def by_hand(self, arguments: list[str]) -> float:
        began = time.monotonic()
        # It makes itself a daemon once it listens.
        subprocess.run(arguments, cwd=self.home, check=True, **QUIET)
        return self.logged_in(began)

    def together(self) -> dict[str, float]:
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            by_charly = pool.submit(self.by_charly)
            by_hand = pool.submit(self.logged_in, began)
            return {"charly": by_charly.result(), "by hand": by_hand.result()}

    def logged_in(self, began: float) -> float:
        end = self.endpoint
        ssh = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "StrictHostKeyChecking=yes"]
        ssh += ["-o", f"UserKnownHostsFile={end['known_hosts']}", "-o", "IdentitiesOnly=yes", "-i", end["identity"]]
        ssh += ["-p", str(end["port"]), "-l", end["user"], end["host"], "true"]
        while subprocess.run(ssh, **QUIET).returncode:
            if time.monotonic() - began > self.timeout:
                raise SystemExit(f"nobody could log in within {self.timeout} s")
            time.sleep(0.1)
        return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--charly", default="charly")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=int, default=900, help="the longest start or shutdown, in seconds")
    parser.add_argument("--together", action="store_true", help="have both wait for one start, instead of one start each")
    given = parser.parse_args()
    machine = Machine(given.charly, given.name, given.timeout)
    took: dict[str, list[float]] = {"charly": [], "by hand": []}
    if given.together:
        for _ in range(given.rounds):
            machine.stop()
            for who, seconds in machine.together().items():
                took[who].append(seconds)
                print(f"{who:8} {seconds:7.2f} s", file=sys.stderr)
        return tell(machine, took)
    machine.by_charly()
    arguments = machine.arguments()
    if any("addr.type=fd" in word for word in arguments):
        raise SystemExit(f"{given.name} is connected by passt, which cannot be handed over here: declare `network: {{backend: qemu}}`")
    for turn in range(given.rounds):
        # Whoever is first finds other caches than who is second.
        for who in sorted(took, reverse=turn % 2 == 1):
            machine.stop()
            took[who].append(machine.by_charly() if who == "charly" else machine.by_hand(arguments))
            print(f"{who:8} {took[who][-1]:7.2f} s", file=sys.stderr)
    tell(machine, took)


def tell(machine: Machine, took: dict[str, list[float]]):
    machine.stop()
    for who, all_of_it in took.items():
        print(f"{who:8} median {statistics.median(all_of_it):7.2f} s, least {min(all_of_it):7.2f} s")
    print(f"difference of the medians {statistics.median(took['charly']) - statistics.median(took['by hand']):+.2f} s")


if __name__ == "__main__":
    main()
