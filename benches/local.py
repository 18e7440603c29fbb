#!/usr/bin/env python3
"""The same file steps on this machine by charly and by a shell script, side by side in one run.

    benches/local.py                                  # forty steps, as everybody's first candy has
    benches/local.py --steps 4000 --runs 5

A quarter of the steps makes folders, the rest places files of about 2.7 kB. The floor is one `sh` script of `install` commands that
ends in `sync -f`: what somebody would write who wants no way back. charly is the whole command, from start to exit, recipe and plan
included. `again` changes nothing and verifies everything. Machines are noisy: read the ratios and the medians.

Memory is the engine's peak (VmHWM), read from /proc while it runs.
"""
import argparse, hashlib, os, pathlib, shutil, statistics, subprocess, tempfile, threading, time


def workload(base: pathlib.Path, target: pathlib.Path, steps: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes the candy and the script; returns the project's folder and the script."""
    candy = base / "project/candy/work"
    (candy / "files").mkdir(parents=True)
    folders = steps // 4
    plan, script = [], [f"mkdir -p {target}"]
    for i in range(folders):
        plan.append(f'    - {{run: folder {i}, mkdir: "{target}/d{i}", mode: "0755", run_as: "${{USER}}"}}')
        script.append(f"install -d -m 755 {target}/d{i}")
    for i in range(steps - folders):
        text = "".join(f"{i}:{k}:{hashlib.sha256(f'{i}.{k}'.encode()).hexdigest()}\n" for k in range(38))
        (candy / "files" / f"f{i}").write_text(text)
        to = f"{target}/d{i % max(folders, 1)}/f{i}"
        plan.append(f'    - {{run: file {i}, copy: files/f{i}, to: "{to}", mode: "0644", run_as: "${{USER}}"}}')
        script.append(f"install -m 644 {candy}/files/f{i} {to}")
    script.append(f"sync -f {target}")
    (candy / "charly.yml").write_text(
        "candy:\n  name: work\n  version: 2026.324.0000\n  description: the benchmark\n  plan:\n" + "\n".join(plan) + "\n"
    )
    (base / "project/charly.yml").write_text("version: 2026.324.0000\ndiscover: [{path: candy}]\n")
    (base / "floor.sh").write_text("set -e\n" + "\n".join(script) + "\n")
    return base / "project", base / "floor.sh"


class Peak(threading.Thread):
    """Watches for engines and remembers the largest peak, in kB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.kb, self.over = 0, False

    def run(self):
        while not self.over:
            for proc in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    if (proc / "comm").read_text().startswith("charly-guest"):
                        line = next(l for l in (proc / "status").read_text().splitlines() if l.startswith("VmHWM"))
                        self.kb = max(self.kb, int(line.split()[1]))
                except (OSError, StopIteration):
                    pass
            time.sleep(0.002)


def timed(command: list, env: dict) -> float:
    start = time.monotonic()
    done = subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}\n{done.stdout[-800:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--charly", default="target/release/charly")
    options = parser.parse_args()
    charly = pathlib.Path(options.charly).resolve()
    base = pathlib.Path(tempfile.mkdtemp(prefix="charly-bench.", dir="/var/tmp"))
    env = os.environ | {"HOME": str(base / "home"), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "XDG_STATE_HOME": ""}
    (base / "home").mkdir()
    target = base / "home/target"
    project, floor = workload(base, target, options.steps)
    call = [charly, "-C", project, "bundle"]
    times = {name: [] for name in ("version", "floor", "add", "again", "del")}
    peak = Peak()
    peak.start()
    try:
        timed([*call, "add", "local", "work", "-y"], env)  # delivers the engine, once
        timed([*call, "del", "local", "-y"], env)
        for _ in range(options.runs):
            times["version"].append(timed([charly, "--version"], env))
            times["floor"].append(timed(["sh", floor], env))
            shutil.rmtree(target)
            times["add"].append(timed([*call, "add", "local", "work", "-y", "-q"], env))
            times["again"].append(timed([*call, "add", "local", "work", "-y", "-q"], env))
            times["del"].append(timed([*call, "del", "local", "-y", "-q"], env))
            if target.exists():
                raise SystemExit("del left something behind")
    finally:
        peak.over = True
        shutil.rmtree(base, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{options.steps} steps, medians of {options.runs} runs, floor = 1.0")
    for name, value in medians.items():
        print(f"  {name:<8}{value * 1000:>9.1f} ms{value / medians['floor']:>8.2f}")
    print(f"  engine's peak memory {peak.kb / 1024:.1f} MB")


if __name__ == "__main__":
    main()
