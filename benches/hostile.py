#!/usr/bin/env python3
"""A layer that is a small file and ten gigabytes of zeros, taken in: how long that takes, and how much memory and disk.

    benches/hostile.py
    benches/hostile.py --gigabytes 70      # more than the bound of 64 GiB for a layer, which is refused

The image is an OCI layout, once by gzip and once by zstd. `box diff` takes it into the store, which reads every byte of it. Fails where
more than 40 MiB of memory or 100 MiB of disk are used. Needs zstd and

    cargo build --release -p charly
"""
import argparse, hashlib, json, os, pathlib, re, shutil, subprocess, tarfile, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent.parent
OCI = "application/vnd.oci.image"
BLOCK = bytes(4 << 20)


def layout(folder: pathlib.Path, size: int, packer: list[str], kind: str):
    """Writes the image; its layer is made on the fly."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    info = tarfile.TarInfo("zeros")
    info.size = size
    plain = hashlib.sha256()
    with open(blobs / "layer", "wb") as out:
        packing = subprocess.Popen(packer, stdin=subprocess.PIPE, stdout=out)

        def give(data):
            plain.update(data)
            packing.stdin.write(data)

        give(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size // len(BLOCK)):
            give(BLOCK)
        give(bytes(1024))
        packing.stdin.close()
        assert packing.wait() == 0

    def put(media: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"{OCI}.{media}", "digest": f"sha256:{digest}", "size": len(data)}

    packed = (blobs / "layer").read_bytes()
    (blobs / "layer").unlink()
    layer = put(f"layer.v1.tar+{kind}", packed)
    roots = {"type": "layers", "diff_ids": [f"sha256:{plain.hexdigest()}"]}
    config = put("config.v1+json", json.dumps({"architecture": "amd64", "os": "linux", "rootfs": roots}).encode())
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
    manifest = put("manifest.v1+json", json.dumps(manifest).encode())
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return len(packed)


def watch(process: subprocess.Popen) -> int:
    """Waits for a process, and returns the most memory that it held. What the kernel says afterwards counts its parent's, too."""
    most, status = 0, pathlib.Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        except OSError:
            found = None
        most = max(most, int(found[1]) * 1024 if found else 0)
        time.sleep(0.005)
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charly", type=pathlib.Path, default=HERE / "target/release/charly")
    parser.add_argument("--gigabytes", type=int, default=10)
    args = parser.parse_args()
    broken = False
    for kind, packer in (("gzip", ["gzip", "-1"]), ("zstd", ["zstd", "-q", "-1", "-T0"])):
        base = pathlib.Path(tempfile.mkdtemp(prefix="charly-bench.", dir="/var/tmp"))
        try:
            packed = layout(base / "image", args.gigabytes << 30, packer, kind)
            env = {"PATH": os.environ["PATH"], "HOME": str(base / "home")}
            (base / "home").mkdir()
            start = time.monotonic()
            place = f"oci:{base}/image"
            with open(base / "said", "w+") as output:
                charly = subprocess.Popen([args.charly, "box", "diff", place, place], env=env, stderr=output)
                memory = watch(charly) / 2**20
                took = time.monotonic() - start
                said = (base / "said").read_text().strip().splitlines()
            disk = sum(path.stat().st_blocks * 512 for path in (base / "home").rglob("*")) / 2**20
            print(f"{args.gigabytes} GiB in {packed / 2**20:.1f} MiB of {kind}: {took:.1f} s, {memory:.1f} MiB of memory, {disk:.1f} MiB of disk, status {charly.returncode}")
            for line in said[-3:]:
                print(f"  {line}")
            broken |= memory > 40 or disk > 100
        finally:
            shutil.rmtree(base, ignore_errors=True)
    raise SystemExit(broken)


if __name__ == "__main__":
    main()
