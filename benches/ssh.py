#!/usr/bin/env python3
"""The same steps on a machine over SSH by charly, by a shell script, and by charly's peers, side by side in one run.

    benches/ssh.py                                       # forty steps, near and 50 ms away, charly and the floor
    benches/ssh.py --tools floor,cold,charly,pyinfra,mitogen,pipelining,ansible
    benches/ssh.py --steps 4000 --rtt 50
    benches/ssh.py --slow-rc                             # the user's start-up file takes half a second, as some do
    benches/ssh.py --file 1000                           # one file of so many MB instead, against `ssh cat`

A quarter of the steps makes folders, half places files of about 2.7 kB, an eighth ensures lines of one file, the rest makes empty files.
`first` begins with a home without them, `again` finds all of it there. After every run the tree is compared with what it shall be. The
floor is one `ssh` that runs a script with an archive behind it and ends in `sync -f`: what somebody would write who wants no way back.
`charly` finds its engine there, `cold` sends it first. All is measured from a command's start to its exit, each over a connection of its
own. Machines are noisy: read the ratios and the medians. `turns` counts how often an answer followed a question on the wire; where much
flows both ways at once that is more than anybody waited for.

The machine is this one, through an sshd of its own on loopback, in a mount namespace where the user's home and charly's other
folders are empty ones of the benchmark. Before it stands the proxy of tests/lab, which delays and counts. Needs root, openssh-server, and

    cargo build --release -p charly -p charly-lab

The peers are installed from PyPI on first use, into --venv.
"""
import argparse, dataclasses, hashlib, os, pathlib, pwd, re, shutil, socket, statistics, subprocess, sys, tempfile, time

USER = pwd.getpwuid(os.getuid())
HERE = pathlib.Path(__file__).resolve().parent.parent
PEERS = ("pyinfra", "mitogen", "pipelining", "ansible")
TREE = "bench"  # below the user's home
# The versions of one day, so that two runs compare.
PACKAGES = ("ansible-core==2.19.14", "mitogen==0.3.54", "pyinfra==3.10.0")


@dataclasses.dataclass
class Work:
    """What is to be there, and each tool's words for it."""

    folder: pathlib.Path
    tree: dict[str, bytes | None]  # by path below the tree: what a file holds, none for a folder

    def check(self, home: pathlib.Path, tool: str):
        root = home / TREE
        found = {str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}
        # What stands around a line that is ensured is everybody's own.
        found["lines"] = b"".join(line + b"\n" for line in found.get("lines", b"").split())
        wrong = [name for name in self.tree.keys() | found.keys() if self.tree.get(name, 0) != found.get(name, 0)]
        if wrong:
            raise SystemExit(f"{tool} left another tree than asked for: {sorted(wrong)[:5]}")


def steps_work(folder: pathlib.Path, steps: int) -> Work:
    """Writes down the steps for every tool."""
    folders, files, lines = steps // 4, steps // 2, steps // 8
    empties = steps - folders - files - lines
    sources, candy = folder / "files", folder / "project/candy/work"
    sources.mkdir(parents=True)
    candy.mkdir(parents=True)
    tree: dict[str, bytes | None] = {f"d{i}": None for i in range(folders)}
    for i in range(files):
        tree[f"f{i}"] = "".join(f"{i}:{k}:{hashlib.sha256(f'{i}.{k}'.encode()).hexdigest()}\n" for k in range(38)).encode()
        (sources / f"f{i}").write_bytes(tree[f"f{i}"])
    line = [f"key{i}=value{i}" for i in range(lines)]
    tree["lines"] = "".join(f"{text}\n" for text in line).encode()
    tree |= {f"e{i}": b"" for i in range(empties)}
    to = f"{USER.pw_dir}/{TREE}"

    shutil.copytree(sources, candy / "files")
    plan = [f'    - {{run: folder {i}, mkdir: "${{HOME}}/{TREE}/d{i}"}}' for i in range(folders)]
    plan += [f'    - {{run: file {i}, copy: files/f{i}, to: "${{HOME}}/{TREE}/f{i}"}}' for i in range(files)]
    plan += [
        f"    - {{run: line {i}, run_as: \"${{USER}}\", uninstall: [\"${{HOME}}/{TREE}/lines\"], "
        f"command: 'cd \"$HOME/{TREE}\" && {{ grep -qxF {text} lines 2>/dev/null || echo {text} >>lines; }}'}}"
        for i, text in enumerate(line)
    ]
    plan += [f'    - {{run: empty file {i}, write: "${{HOME}}/{TREE}/e{i}", content: ""}}' for i in range(empties)]
    write_project(folder, plan)

    script = ["set -e", f"mkdir -p {to}", f"cd {to}", "tar xf -"]
    script += [f"mkdir -p d{i}" for i in range(folders)]
    script += [f"grep -qxF {text} lines 2>/dev/null || echo {text} >>lines" for text in line]
    script += [f"[ -e e{i} ] || : >e{i}" for i in range(empties)]
    (folder / "floor.sh").write_text("\n".join([*script, "sync -f ."]) + "\n")
    subprocess.run(["tar", "-C", sources, "-cf", folder / "files.tar", "."], check=True)

    tasks = [f"    - file: {{path: {to}/d{i}, state: directory, mode: '0755'}}" for i in range(folders)]
    tasks += [f"    - copy: {{src: files/f{i}, dest: {to}/f{i}, mode: '0644'}}" for i in range(files)]
    tasks += [f"    - lineinfile: {{path: {to}/lines, line: '{text}', create: true, mode: '0644'}}" for text in line]
    tasks += [f"    - copy: {{content: '', dest: {to}/e{i}, mode: '0644'}}" for i in range(empties)]
    (folder / "play.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks:\n" + "\n".join(tasks) + "\n")
    (folder / "deploy.py").write_text(
        f"from io import StringIO\nfrom pyinfra.operations import files\n"
        f"for i in range({folders}): files.directory(path=f'{to}/d{{i}}', mode='755')\n"
        f"for i in range({files}): files.put(src=f'files/f{{i}}', dest=f'{to}/f{{i}}', mode='644')\n"
        f"for i in range({lines}): files.line(path='{to}/lines', line=f'key{{i}}=value{{i}}', ensure_newline=True)\n"
        f"for i in range({empties}): files.put(src=StringIO(''), dest=f'{to}/e{{i}}', mode='644')\n"
    )
    return Work(folder, tree)


class OneFile(Work):
    """One file that no compression makes smaller."""

    def __init__(self, folder: pathlib.Path, megabytes: int):
        super().__init__(folder, {})
        candy = folder / "project/candy/work"
        candy.mkdir(parents=True)
        digest = hashlib.sha256()
        with open(candy / "file", "wb") as file:
            for _ in range(megabytes):
                piece = os.urandom(1_000_000)
                file.write(piece)
                digest.update(piece)
        self.digest = digest.digest()
        write_project(folder, [f'    - {{run: the file, copy: file, to: "${{HOME}}/{TREE}/file"}}'])
        (folder / "floor.sh").write_text(f"set -e\nmkdir -p {TREE}\ncat >{TREE}/file\nsync -f {TREE}/file\n")
        (folder / "files.tar").symlink_to(candy / "file")

    def check(self, home: pathlib.Path, tool: str):
        with open(home / TREE / "file", "rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != self.digest:
                raise SystemExit(f"{tool} left another file than asked for")


def write_project(folder: pathlib.Path, plan: list[str]):
    (folder / "project/candy/work/charly.yml").write_text(
        "candy:\n  name: work\n  version: 2026.324.0000\n  description: the benchmark\n  plan:\n" + "\n".join(plan) + "\n"
    )
    (folder / "project/charly.yml").write_text("version: 2026.324.0000\ndiscover: [{path: candy}]\n")


class Machine:
    """This machine as another: an sshd whose sessions have a home and a system ledger of their own."""

    def __init__(self, base: pathlib.Path, slow_rc: bool):
        self.base, self.home = base, base / "home"
        # What sessions see instead of the machine's own: the home, the system's ledger, and where engines are if no home takes them.
        self.covers = {"home": USER.pw_dir, "system": "/var/lib/opencharly", "engines": f"/var/tmp/charly-{USER.pw_uid}"}
        self.made = [folder for folder in self.covers.values() if not os.path.isdir(folder)]
        for ours, theirs in self.covers.items():
            (base / ours).mkdir(mode=0o700)
            os.makedirs(theirs, mode=0o700, exist_ok=True)
        if slow_rc:
            (self.home / ".bashrc").write_text("sleep 0.5\n")
        for name in ("host", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", base / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (base / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {base}/host\nAuthorizedKeysFile {base}/id.pub\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 200\n"
            "MaxSessions 200\nSubsystem sftp internal-sftp\n"
        )
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        covering = "".join(f"mount --bind '{base / ours}' '{theirs}' && " for ours, theirs in self.covers.items())
        start = f"{covering}exec /usr/sbin/sshd -D -e -f '{base}/sshd_config'"
        with open(base / "sshd.log", "w") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", start], stderr=log)
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"sshd did not start: {(base / 'sshd.log').read_text()}")
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)

    def empty(self, engine_too: bool):
        """Makes the home as it was, but for charly's engine."""
        keep = {".bashrc"} if engine_too else {".bashrc", ".cache"}
        for path in [*self.home.iterdir(), *(self.base / "system").iterdir()]:
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def stop(self):
        self.process.terminate()
        self.process.wait()
        # A folder that was made to be covered has remained empty.
        for folder in self.made:
            os.rmdir(folder)


class Way:
    """The network before the machine."""

    def __init__(self, lab: pathlib.Path, machine: Machine, rtt: int):
        self.rtt = rtt
        self.process = subprocess.Popen(
            [lab, "proxy", "--to", f"127.0.0.1:{machine.port}", "--rtt", str(rtt)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        self.known = machine.base / f"known_hosts.{rtt}"
        key = " ".join((machine.base / "host.pub").read_text().split()[:2])
        self.known.write_text(f"[127.0.0.1]:{self.port} {key}\n")

    def passed(self) -> tuple[int, int]:
        """Returns the bytes and the turns so far, of both directions."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        _, up, down, turns = map(int, re.findall(r"\d+", self.process.stdout.readline()))
        return up + down, turns

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


@dataclasses.dataclass
class Bench:
    """What all runs have in common."""

    base: pathlib.Path
    work: Work
    machine: Machine
    options: argparse.Namespace

    def command(self, tool: str, way: Way) -> tuple[list, dict]:
        """Returns a tool's command and what its environment has beside the usual."""
        at, key, known = f"{USER.pw_name}@127.0.0.1", self.base / "id", way.known
        folder = self.work.folder
        if tool == "floor":
            ssh = f"ssh -F none -i {key} -p {way.port} -o IdentitiesOnly=yes -o UserKnownHostsFile={known} {at}"
            # The script is a file there, so that what follows it on the wire is the script's to read.
            there = f"t=$(mktemp) && head -c {(folder / 'floor.sh').stat().st_size} >$t && sh $t && rm $t"
            return ["sh", "-c", f"cat {folder}/floor.sh {folder}/files.tar | {ssh} '{there}'"], {}
        if tool in ("charly", "cold"):
            call = [self.options.charly, "-C", folder / "project", "bundle", "add", f"ssh:{at}:{way.port}", "work", "-y"]
            return [*call, "--identity", key, "--known-hosts", known], {}
        programs = self.options.venv / "bin"
        if tool == "pyinfra":
            call = [programs / "pyinfra", "-y", "--ssh-port", way.port, "--ssh-user", USER.pw_name, "--ssh-key", key]
            return [*call, "--data", f"ssh_known_hosts_file={known}", "127.0.0.1", "deploy.py"], {}
        inventory = self.base / f"inventory.{way.rtt}"
        inventory.write_text(
            f"there ansible_host=127.0.0.1 ansible_port={way.port} ansible_user={USER.pw_name} ansible_ssh_private_key_file={key} "
            f"ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='-F none -o UserKnownHostsFile={known}'\n"
        )
        more = {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.base / "masters"), "ANSIBLE_LOCALHOST_WARNING": "0"}
        if tool in ("pipelining", "mitogen"):
            more["ANSIBLE_PIPELINING"] = "1"
        if tool == "mitogen":
            plugins = next(self.options.venv.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy"))
            more |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}
        return [programs / "ansible-playbook", "-i", inventory, "play.yml"], more

    def run(self, tool: str, way: Way) -> tuple[float, float, int, float]:
        """Runs a tool once; returns the seconds, kB and turns it took, and its peak of memory in MB."""
        command, more = self.command(tool, way)
        own = {"HOME": str(self.base / "controller"), "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "XDG_STATE_HOME": "", "SSH_AUTH_SOCK": ""}
        bytes_before, turns_before = way.passed()
        output = self.base / "output"
        start = time.monotonic()
        with open(output, "w") as out:
            process = subprocess.Popen(
                [str(word) for word in command], cwd=self.work.folder, env=os.environ | own | more,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{tool} ended with {process.returncode}\n{output.read_text()[-3000:]}")
        # Ansible's connections outlive it, so that the next run need not connect. Here every run does.
        for master in (self.base / "masters").glob("*"):
            subprocess.run(["ssh", "-o", f"ControlPath={master}", "-O", "exit", "there"], stderr=subprocess.DEVNULL, check=False)
        self.work.check(self.machine.home, tool)
        bytes_after, turns_after = way.passed()
        return took, (bytes_after - bytes_before) / 1000, turns_after - turns_before, usage.ru_maxrss / 1024

    def measure(self, tools: list[str], way: Way):
        """Runs all tools by turns, so that the machine's moods meet them alike, and prints a line for each."""
        firsts, agains = {tool: [] for tool in tools}, {tool: [] for tool in tools}
        for turn in range(self.options.runs + 1):
            for tool in tools:
                self.machine.empty(engine_too=tool == "cold")
                first, again = self.run(tool, way), self.run(tool, way)
                # The first round fills caches, those of files and charly's engine there, and is not counted.
                if turn or tool == "cold":
                    firsts[tool].append(first)
                    agains[tool].append(again)
        floor = None
        for tool in tools:
            first, again = ([statistics.median(column) for column in zip(*runs[tool])] for runs in (firsts, agains))
            floor = floor or (first, again)
            print(
                f"{tool:<12}{way.rtt:>6}{first[0]:>10.3f}{again[0]:>10.3f}{first[0] / floor[0][0]:>8.2f}{again[0] / floor[1][0]:>8.2f}"
                f"{first[1]:>12.1f}{again[1]:>12.1f}{first[2]:>8.0f}{again[2]:>8.0f}{max(first[3], again[3]):>8.0f}",
                flush=True,
            )


def install_peers(venv: pathlib.Path):
    if not (venv / "bin/pyinfra").exists():
        print(f"installing {', '.join(PACKAGES)} into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "--quiet", "install", *PACKAGES], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", default="floor,charly", help=f"of floor, cold, charly, {', '.join(PEERS)}; ratios are to the first")
    parser.add_argument("--rtt", default="0,50", help="milliseconds there and back")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--file", type=int, metavar="MB")
    parser.add_argument("--slow-rc", action="store_true")
    parser.add_argument("--charly", type=pathlib.Path, default=HERE / "target/release/charly")
    parser.add_argument("--lab", type=pathlib.Path, default=HERE / "target/release/charly-lab")
    parser.add_argument("--venv", type=pathlib.Path, default=pathlib.Path("/var/tmp/charly-bench-peers"))
    options = parser.parse_args()
    options.charly = options.charly.resolve()
    tools = options.tools.split(",")
    if unknown := set(tools) - {"floor", "cold", "charly", *PEERS}:
        parser.error(f"unknown tools: {', '.join(sorted(unknown))}")
    if options.file and set(tools) & set(PEERS):
        parser.error("one file is a matter of floor, cold and charly")
    if os.getuid():
        parser.error("a machine of its own needs root")
    if set(tools) & set(PEERS):
        install_peers(options.venv)
    base = pathlib.Path(tempfile.mkdtemp(prefix="charly-bench.", dir="/var/tmp"))
    machine, ways = None, []
    try:
        for name in ("work", "controller", "masters"):
            (base / name).mkdir()
        work = OneFile(base / "work", options.file) if options.file else steps_work(base / "work", options.steps)
        machine = Machine(base, options.slow_rc)
        bench = Bench(base, work, machine, options)
        what = f"a file of {options.file} MB" if options.file else f"{options.steps} steps"
        print(f"{what}, medians of {options.runs} runs, ratios to {tools[0]}{', slow start-up file' if options.slow_rc else ''}")
        print(f"{'tool':<12}{'rtt ms':>6}{'first s':>10}{'again s':>10}{'ratio':>8}{'ratio':>8}{'first kB':>12}{'again kB':>12}{'turns':>8}{'turns':>8}{'MB':>8}")
        for rtt in options.rtt.split(","):
            ways.append(Way(options.lab, machine, int(rtt)))
            bench.measure(tools, ways[-1])
    finally:
        for way in ways:
            way.stop()
        if machine:
            machine.stop()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
