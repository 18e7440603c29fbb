//! What the OCI runtime is told.

use std::path::Path;

use charly_ir::STANDARD_PATH;
use serde_json::{Value as Json, json};

use super::{Bind, Command};

/// Where the engine's program is in the image while it runs; `/run` is a file system of the sandbox's own.
const ENGINE: &str = "/run/charly/engine";

/// What podman gives a container by default, without the right to send raw packets, and with what packages' scripts need.
const CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What of them a builder keeps: enough to be another user and to set owners. Programs from a registry make no devices.
const OF_BUILDERS: &[&str] =
    &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];

/// Returns the `config.json` of a container that runs the engine in a root.
pub(super) fn of_engine(root: &Path, engine: &Path, resolver: Option<&Path>) -> Json {
    let process = json!({
        "args": [ENGINE],
        "env": [format!("PATH={STANDARD_PATH}"), "HOME=/root", "LANG=C.UTF-8", "container=oci"],
        "cwd": "/",
    });
    config(root, process, CAPABILITIES, vec![bind(ENGINE, engine, &["rbind", "ro", "nosuid", "nodev"])], resolver)
}

/// Returns the `config.json` of a container that runs a program with folders of its own.
pub(super) fn of_command(root: &Path, command: &Command, resolver: Option<&Path>) -> Json {
    let Command { arguments, env, folder, binds } = command;
    let given = env.iter().map(|(name, value)| format!("{name}={value}"));
    let own = [format!("PATH={STANDARD_PATH}"), "LANG=C.UTF-8".to_owned(), "container=oci".to_owned()];
    let env: Vec<_> = own.into_iter().chain(given).collect();
    let binds = binds.iter().map(|Bind { from, to, is_writable }| {
        bind(
            to,
            from,
            if *is_writable { &["rbind", "rw", "nosuid", "nodev"] } else { &["rbind", "ro", "nosuid", "nodev"] },
        )
    });
    let process = json!({ "args": arguments, "env": env, "cwd": folder });
    config(root, process, OF_BUILDERS, binds.collect(), resolver)
}

/// Returns a `config.json`. The network is the machine's own.
///
/// Its form is that of the OCI runtime specification 1.0.
fn config(root: &Path, mut process: Json, capabilities: &[&str], binds: Vec<Json>, resolver: Option<&Path>) -> Json {
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        // Without `gid=5`, which a user namespace may not have.
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
        mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755"]),
    ];
    mounts.extend(binds);
    if let Some(resolver) = resolver {
        mounts.push(bind("/etc/resolv.conf", resolver, &["rbind", "ro", "nosuid", "nodev", "noexec"]));
    }
    process["terminal"] = json!(false);
    process["user"] = json!({ "uid": 0, "gid": 0 });
    process["capabilities"] = json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    process["noNewPrivileges"] = json!(true);
    json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": root, "readonly": false },
        "hostname": "charly-box",
        "mounts": mounts,
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"],
            "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// The paths that the mounts may leave in an image that has them not.
pub(super) const MOUNT_POINTS: &[&str] = &["dev", "etc/resolv.conf", "proc", "run", "sys", "tmp"];

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Json {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Json {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}
