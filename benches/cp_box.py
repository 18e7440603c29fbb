#!/usr/bin/env python3
"""An image on its way into a guest's podman by `charly vm cp-box` and by `podman save | ssh podman load`, side by side in one run.

    benches/cp_box.py                            # 8,545 files of 423 MB, rootless, five runs of each
    benches/cp_box.py --files 1000 --size 50000000 --runs 2
    benches/cp_box.py --root                     # into root's storage

`cold` begins with a guest that has nothing of the image, `change` with one whose small top layer differs by three bytes, `none` with
one that has it. After every run the guest's image is compared by id, and run through `podman system check` after the last. Times are
of the whole command, each over a connection of its own; bytes are those of both directions of the wire. Machines are noisy: read the
medians and what is written beside them, the least. `memory` is the most that charly held here, and its engines in the guest.

The image is made here, of files whose sizes are spread as those of programs are and that pack to about two fifths. It lies in a storage
of the benchmark's own. The guest is one of tests/lab. Needs root, podman and

    cargo build --release -p charly -p charly-lab
"""
import argparse, hashlib, io, json, os, pathlib, random, re, shutil, statistics, subprocess, tarfile, tempfile, threading, time

HERE = pathlib.Path(__file__).resolve().parent.parent
GUEST = "cpboxbench"
NAME = "localhost/bench:latest"
OCI = "application/vnd.oci.image"


def tar(entries: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        # Podman's check takes folders that no layer names for damaged.
        folders = {"/".join(parts[:i]) for name, _ in entries for parts in [name.split("/")] for i in range(1, len(parts))}
        for name in sorted(folders):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1700000000
            archive.addfile(info)
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, 1700000000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def contents(files: int, size: int) -> list[tuple[str, bytes]]:
    """Returns files that are as large, as many and as easily packed as those of a usual image."""
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz_", k=rng.randint(2, 9))) for _ in range(500)]
    shares = [rng.paretovariate(1.1) for _ in range(files)]
    unit = size / sum(shares)
    found = []
    for i, share in enumerate(shares):
        left, parts = max(1, int(share * unit)), []
        while left > 0:
            part = rng.randbytes(2000) if rng.random() < 0.14 else b" ".join(rng.choices(words, k=300))
            parts.append(part[:left])
            left -= len(part)
        found.append((f"usr/share/d{i % 300}/s{i % 7}/f{i}", b"".join(parts)))
    return found


def layout(folder: pathlib.Path, layers: list[bytes]) -> str:
    """Writes an OCI layout and returns the image's id."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(kind: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    described = [put("layer.v1.tar", layer) for layer in layers]
    roots = {"type": "layers", "diff_ids": [layer["digest"] for layer in described]}
    config = put("config.v1+json", json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": roots}).encode())
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": described}
    index = {"schemaVersion": 2, "manifests": [put("manifest.v1+json", json.dumps(manifest).encode())]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return config["digest"].split(":")[1]


class Way:
    """The network before the guest, which counts."""

    def __init__(self, lab: pathlib.Path, address: str, port: str, known: pathlib.Path):
        self.process = subprocess.Popen([lab, "proxy", "--to", f"{address}:{port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        key = subprocess.run(["ssh-keyscan", "-t", "ed25519", "-p", port, address], capture_output=True, text=True, check=True).stdout.split()
        known.write_text(f"[127.0.0.1]:{self.port} {key[-2]} {key[-1]}\n")

    def passed(self) -> int:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        _, up, down, _ = map(int, re.findall(r"\d+", self.process.stdout.readline()))
        return up + down

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Memory:
    """The most memory that programs held while they were looked at, by name. A guest's processes are this machine's, too."""

    def __init__(self):
        self.most, self.over = {"charly": 0, "charly-guest": 0}, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.005):
            for status in pathlib.Path("/proc").glob("[0-9]*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue
                name = text.partition("\n")[0].removeprefix("Name:\t")
                if name in self.most and (found := re.search(r"VmHWM:\s+(\d+) kB", text)):
                    self.most[name] = max(self.most[name], int(found[1]) * 1024)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8545)
    parser.add_argument("--size", type=int, default=415_000_000, help="bytes of all files")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--root", action="store_true", help="into root's storage rather than the user's")
    parser.add_argument("--charly", type=pathlib.Path, default=HERE / "target/release/charly")
    parser.add_argument("--lab", type=pathlib.Path, default=HERE / "target/release/charly-lab")
    options = parser.parse_args()
    if os.getuid():
        parser.error("a guest and a storage of its own need root")
    base = pathlib.Path(tempfile.mkdtemp(prefix="charly-bench.", dir="/var/tmp"))
    way = None
    try:
        (base / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{base}/storage"\nrunroot = "{base}/run"\n')
        env = os.environ | {"CONTAINERS_STORAGE_CONF": str(base / "storage.conf"), "HOME": str(base / "home"), "SSH_AUTH_SOCK": ""}
        (base / "home").mkdir()
        files = contents(options.files, options.size)
        half = len(files) // 2
        common = [tar(files[:half]), tar(files[half:]), tar([("etc/small", b"x" * 5000)])]
        images = {}
        for word in ("one", "two"):
            images[word] = layout(base / word, [*common, tar([("etc/top", word.encode())])])
            subprocess.run(["podman", "pull", "--quiet", f"oci:{base / word}"], env=env, check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(base / word)
        size = sum(map(len, common)) / 1e6
        up = subprocess.run([options.lab, "up", "nspawn", GUEST], check=True, capture_output=True, text=True).stdout.split()
        address, port, key = up[-3:]
        known = base / "known_hosts"
        way = Way(options.lab, address, port, known)
        at = ["ssh", "-q", "-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known}", "-p", str(way.port)]
        at += ["root@127.0.0.1" if options.root else "deploy@127.0.0.1"]
        charly = [options.charly, "vm", "cp-box", f"ssh:deploy@127.0.0.1:{way.port}", NAME, "--identity", key, "--known-hosts", known]
        charly += [] if options.root else ["--rootless"]
        tools = {
            "save|load": ["bash", "-o", "pipefail", "-c", f"podman save --quiet {NAME} | {' '.join(map(str, at))} podman load --quiet"],
            "charly": charly,
        }

        def there(command: str) -> str:
            return subprocess.run([*at, command], check=True, capture_output=True, text=True).stdout

        def run(tool: str, word: str) -> tuple[float, int]:
            subprocess.run(["podman", "tag", images[word], NAME], env=env, check=True)
            before, start = way.passed(), time.monotonic()
            with open(base / "output", "w") as output:
                process = subprocess.Popen(
                    [str(part) for part in tools[tool]], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
                status = process.wait()
            took = time.monotonic() - start
            if status:
                raise SystemExit(f"{tool} failed\n{(base / 'output').read_text()[-3000:]}")
            crossed = way.passed() - before
            found = there(f"podman image inspect --format '{{{{.Id}}}}' {NAME}").strip()
            if found != images[word]:
                raise SystemExit(f"{tool} left {found} there instead of {images[word]}")
            return took, crossed

        cases = ("cold", "change", "none")
        found = {(tool, case): [] for tool in tools for case in cases}
        for turn in range(options.runs + 1):
            for tool in tools:
                there("podman rmi --all --force >/dev/null 2>&1; sync")
                for case, word in zip(cases, ("one", "two", "two")):
                    result = run(tool, word)
                    # The first round fills caches and brings charly's engine, and is not counted.
                    if turn:
                        found[tool, case].append(result)
        # By itself: looking takes time.
        there("podman rmi --all --force >/dev/null 2>&1; sync")
        with Memory() as memory:
            run("charly", "one")
        there("podman system check")
        print(f"{options.files} files, {size:.0f} MB in 4 layers, medians of {options.runs} runs ({os.cpu_count()} processors, load {os.getloadavg()[0]:.1f})")
        print(f"{'tool':<12}{'case':<8}{'s':>8}{'least':>8}{'kB':>12}")
        for case in cases:
            for tool in tools:
                times, crossed = zip(*found[tool, case])
                print(f"{tool:<12}{case:<8}{statistics.median(times):>8.2f}{min(times):>8.2f}{statistics.median(crossed) / 1000:>12.1f}")
        here, guest = (memory.most[name] / 2**20 for name in ("charly", "charly-guest"))
        print(f"memory, cold: {here:.1f} MiB here, {guest:.1f} MiB the largest engine")
    finally:
        if way:
            way.stop()
            subprocess.run([options.lab, "down", GUEST], check=False)
        subprocess.run(["umount", "--quiet", "--recursive", base / "storage/overlay"], check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
