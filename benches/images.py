#!/usr/bin/env python3
"""The same image by charly, buildah and umoci, side by side in one run.

    benches/images.py                       # 8,545 files, 423 MB: the shape of an application with its dependencies
    benches/images.py --files 1000 --megabytes 40 --runs 5

One candy copies all files, on nothing (`scratch`). buildah copies, commits and pushes to an OCI layout (and once more, commits
straight into one, without keeping the image); umoci inserts into one. charly
is the whole command from start to exit: recipe, digests of every file, layer, manifest. Then, for charly: nothing changed; one more
candy of one file on top; one file changed inside the large one. The floor is `tar | zstd -T0 -3`. Machines are noisy: read the
ratios and the medians. Programs that are not there are left out.
"""
import argparse, hashlib, os, pathlib, random, shutil, statistics, subprocess, tempfile, time


def corpus(folder: pathlib.Path, files: int, total: int):
    """Writes files like those of a language's packages: many small texts, a few large binaries, about 3:1 to compress."""
    rng = random.Random(7)
    words = [hashlib.sha256(str(i).encode()).hexdigest()[: 3 + i % 9] for i in range(4000)]
    sizes = [rng.paretovariate(1.1) for _ in range(files)]
    scale = total / sum(min(size, 2000) for size in sizes)
    for i, size in enumerate(sizes):
        length = max(16, int(min(size, 2000) * scale))
        path = folder / f"pkg{i % 311}" / f"mod{i % 7}" / f"f{i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % 3 == 0:
            block = rng.randbytes(max(1, length // 2))
            data = (block + bytes(length))[:length]
        else:
            text = " ".join(rng.choices(words, k=min(length, 60_000) // 6 + 1)).encode()
            data = (text * (length // max(1, len(text)) + 1))[:length]
        path.write_bytes(data)


def timed(command: list, env: dict, **more) -> float:
    start = time.monotonic()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    return time.monotonic() - start


def candy(base: pathlib.Path, name: str, plan: str):
    folder = base / "project/candy" / name
    folder.mkdir(parents=True, exist_ok=True)
    text = f"candy:\n  name: {name}\n  version: 2026.324.0000\n  description: the benchmark\n  plan:\n    - {plan}\n"
    (folder / "charly.yml").write_text(text)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charly", default="target/release/charly")
    parser.add_argument("--files", type=int, default=8545)
    parser.add_argument("--megabytes", type=int, default=423)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only-charly", action="store_true")
    args = parser.parse_args()
    charly = str(pathlib.Path(args.charly).resolve())
    with tempfile.TemporaryDirectory(prefix="charly-images.", dir="/var/tmp") as where:
        base = pathlib.Path(where)
        (base / "home").mkdir()
        env = {"PATH": os.environ["PATH"], "HOME": str(base / "home"), "LANG": "C.UTF-8"}
        big = candy(base, "big", "{run: all, copy: files, to: /opt/app}")
        candy(base, "small", "{run: one, write: /etc/small, content: one}")
        corpus(big / "files", args.files, args.megabytes * 1_000_000)
        (base / "project/charly.yml").write_text(
            "version: 2026.324.0000\nbox:\n  big: {base: scratch, candy: [big]}\n  top: {base: big, candy: [small]}\n"
        )
        project = base / "project"
        some = next(path for path in sorted((big / "files").rglob("*")) if path.is_file())
        results: dict[str, list] = {}

        def note(what, seconds):
            results.setdefault(what, []).append(seconds)
            print(f"  {what:<40} {seconds:7.3f} s", flush=True)

        def build(box, *more):
            return timed([charly, "-C", project, "box", "build", box, *more], env)

        for run in range(args.runs):
            print(f"run {run + 1}")
            for kind in ("zstd", "gzip"):
                shutil.rmtree(base / "home", ignore_errors=True)
                (base / "home").mkdir()
                note(f"charly {kind}", build("big", "--compression", kind))
                note(f"charly {kind}, nothing changed", build("big", "--compression", kind))
                (project / "candy/small/charly.yml").write_text(
                    (project / "candy/small/charly.yml").read_text().replace("content: ", "content: x")
                )
                note(f"charly {kind}, one small candy on top", build("top", "--compression", kind))
                results.setdefault("n", []).append(0)
                some.write_bytes(some.read_bytes()[:-1] + bytes([len(results.get("n", [])) % 200 + 32]))
                note(f"charly {kind}, one file changed inside", build("big", "--compression", kind))
            if shutil.which("zstd"):
                note("floor: tar | zstd", timed(["sh", "-c", f"tar -C {big}/files -cf - . | zstd -q -T0 -3 -o /dev/null -f"], env))
            if args.only_charly:
                continue
            if shutil.which("buildah"):
                storage = ["--root", str(base / "buildah"), "--runroot", str(base / "buildah-run"), "--storage-driver", "vfs"]
                start = time.monotonic()
                container = subprocess.run(
                    ["buildah", *storage, "from", "scratch"], env=env, check=True, stdout=subprocess.PIPE, text=True
                ).stdout.strip()
                timed(["buildah", *storage, "copy", "-q", container, f"{big}/files", "/opt/app"], env)
                timed(["buildah", *storage, "commit", "-q", container, f"oci:{base}/buildah-out:big"], env)
                note("buildah, straight to a layout", time.monotonic() - start)
                start = time.monotonic()
                container = subprocess.run(
                    ["buildah", *storage, "from", "scratch"], env=env, check=True, stdout=subprocess.PIPE, text=True
                ).stdout.strip()
                timed(["buildah", *storage, "copy", "-q", container, f"{big}/files", "/opt/app"], env)
                timed(["buildah", *storage, "commit", "-q", container, "big"], env)
                timed(["buildah", *storage, "push", "-q", "big", f"oci:{base}/buildah-out:pushed"], env)
                note("buildah", time.monotonic() - start)
                shutil.rmtree(base / "buildah", ignore_errors=True)
                shutil.rmtree(base / "buildah-out", ignore_errors=True)
            if shutil.which("umoci"):
                layout = f"{base}/umoci"
                start = time.monotonic()
                timed(["umoci", "init", "--layout", layout], env)
                timed(["umoci", "new", "--image", f"{layout}:big"], env)
                timed(["umoci", "insert", "--image", f"{layout}:big", f"{big}/files", "/opt/app"], env)
                note("umoci", time.monotonic() - start)
                shutil.rmtree(layout, ignore_errors=True)
        median = {what: statistics.median(seconds) for what, seconds in results.items() if what != "n"}
        print("\nmedians")
        for what, seconds in median.items():
            ratios = [
                f"{median[peer] / seconds:6.1f} x {peer}" for peer in ("buildah", "buildah, straight to a layout", "umoci") if peer in median and what != peer
            ]
            print(f"  {what:<40} {seconds:7.3f} s {'  '.join(ratios)}")


if __name__ == "__main__":
    main()
