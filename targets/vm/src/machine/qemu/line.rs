//! QEMU's command line.

use std::os::fd::RawFd;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::machine::spec::{Firmware, Forward};
use crate::machine::{State, identity, spec};

/// The sockets and files of a running machine, below its folder.
pub(crate) const CONTROL: &str = "qmp";
pub(crate) const CONSOLE: &str = "console";
pub(crate) const CONSOLE_LOG: &str = "console.log";
pub(crate) const AGENT: &str = "agent";
pub(crate) const PID: &str = "pid";

/// The name of the disk among QEMU's devices.
pub(crate) const DISK: &str = "disk";

/// What runs a machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// Software, on one processor: on more of them some kernels panic.
    Emulation,
}

impl Accelerator {
    /// Returns its name, as QEMU has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Emulation => "tcg",
        }
    }
}

/// The files of a UEFI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uefi {
    /// The code, which machines share.
    pub code: String,
    /// The machine's own variables.
    pub variables: String,
}

/// What a machine is started with, beside what it is.
#[derive(Debug)]
pub struct Means<'a> {
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// Its UEFI, where it has one.
    pub uefi: Option<&'a Uefi>,
    /// The open file that leads to passt, where that carries its network.
    pub passt: Option<RawFd>,
    /// The open files that lead to a virtiofsd for each of its shares.
    pub shares: &'a [RawFd],
}

/// Returns the arguments with which QEMU runs a machine. It is started in the machine's folder: sockets are named without
/// it, because their paths may not be long.
pub fn arguments(state: &State, home: &Path, means: &Means<'_>) -> Vec<String> {
    let Means { accelerator, uefi, passt, shares } = *means;
    let spec = &state.desired;
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-name", format!("guest={0},process={0}", state.name.domain()));
    add("-uuid", state.instance_id.to_string());
    let (accel, cpu, cpus) = match accelerator {
        Accelerator::Kvm => ("kvm", "host", spec.cpus),
        Accelerator::Emulation => ("tcg,thread=single", "max", 1),
    };
    let secure = if spec.firmware == Firmware::UefiSecure { ",smm=on" } else { "" };
    add("-machine", format!("{}{secure}", spec.machine));
    add("-accel", accel.into());
    add("-cpu", cpu.into());
    add("-smp", cpus.to_string());
    let memory = format!("{}M", spec.memory.div_ceil(1 << 20));
    add("-m", memory.clone());
    if let Some(uefi) = uefi {
        let flash = |name: &str, path: &str, read_only: bool| {
            let file = json!({ "driver": "file", "filename": path });
            json!({ "driver": "raw", "node-name": name, "read-only": read_only, "file": file }).to_string()
        };
        add("-blockdev", flash("code", &uefi.code, true));
        add("-blockdev", flash("variables", &uefi.variables, false));
        add("-machine", "pflash0=code,pflash1=variables".into());
        if spec.firmware == Firmware::UefiSecure {
            add("-global", "driver=cfi.pflash01,property=secure,value=on".into());
        }
    }
    let disk = json!({ "driver": "file", "filename": state.disk_path, "discard": "unmap" });
    add("-blockdev", block("qcow2", DISK, false, &disk));
    add("-device", format!("virtio-blk-pci,drive={DISK},bootindex=1"));
    for (index, further) in spec.disks.iter().enumerate() {
        let file = json!({ "driver": "file", "filename": home.join(further.file()), "discard": "unmap" });
        let (node, name) = (format!("disk{index}"), &further.name);
        add("-blockdev", block("qcow2", &node, false, &file));
        add("-device", format!("virtio-blk-pci,drive={node},serial={name}"));
    }
    if let Some(seed) = &state.seed_iso {
        let seed = json!({ "driver": "file", "filename": seed, "read-only": true });
        add("-blockdev", block("raw", "seed", true, &seed));
        add("-device", "virtio-blk-pci,drive=seed".into());
    }
    if !shares.is_empty() {
        // virtiofsd reads and writes what is in the guest's memory.
        add("-object", format!("memory-backend-memfd,id=memory,size={memory},share=on"));
        add("-machine", "memory-backend=memory".into());
    }
    for (index, share) in shares.iter().enumerate() {
        let tag = spec::tag(index);
        add("-chardev", format!("socket,id={tag},fd={share}"));
        add("-device", format!("vhost-user-fs-pci,chardev={tag},tag={tag}"));
    }
    let network = if let Some(passt) = passt {
        format!("stream,id=net,server=off,addr.type=fd,addr.str={passt}")
    } else {
        let lead = |Forward { host, guest }| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
        format!("user,id=net{}", forwards(state).map(lead).collect::<String>())
    };
    add("-netdev", network);
    let mac = spec.mac.clone().unwrap_or_else(|| identity::mac(state.instance_id));
    add("-device", format!("{},netdev=net,mac={mac}", spec.card));
    add("-device", "virtio-rng-pci".into());
    let logged = format!(",logfile={CONSOLE_LOG},logappend=on");
    add("-chardev", format!("socket,id=console,path={CONSOLE},server=on,wait=off{logged}"));
    add("-serial", "chardev:console".into());
    add("-chardev", format!("socket,id=agent,path={AGENT},server=on,wait=off"));
    add("-device", "virtio-serial-pci".into());
    add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".into());
    add("-chardev", format!("socket,id=control,path={CONTROL},server=on,wait=off"));
    add("-mon", "chardev=control,mode=control".into());
    let key = state.key_injection_resolved.as_ref().filter(|key| key.smbios).and_then(|key| key.public.as_ref());
    if let Some(key) = key {
        add("-smbios", format!("type=11,value={}", credential(&state.ssh_user, key)));
    }
    add("-display", "none".into());
    // QEMU removes it when it ends, from a folder that is not this one any more.
    add("-pidfile", home.join(PID).display().to_string());
    words.extend(["-nodefaults", "-no-user-config", "-daemonize"].map(str::to_owned));
    words
}

/// Returns the ports that lead into a machine, all of them on the loopback alone: what is to be seen from outside is a decision of its own.
pub(super) fn forwards(state: &State) -> impl Iterator<Item = Forward> {
    std::iter::once(Forward { host: state.ssh_port, guest: 22 }).chain(state.desired.forwards.iter().copied())
}

fn block(driver: &str, name: &str, read_only: bool, file: &Json) -> String {
    json!({ "driver": driver, "node-name": name, "read-only": read_only, "file": file }).to_string()
}

/// Returns the credential by which systemd lets a user in: what its tmpfiles are to make beside the guest's own.
fn credential(user: &str, key: &str) -> String {
    let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
    let key = STANDARD.encode(format!("{key}\n"));
    let lines =
        format!("d {home}/.ssh 0700 {user} {user} -\nf~ {home}/.ssh/authorized_keys 0600 {user} {user} - {key}\n");
    format!("io.systemd.credential.binary:tmpfiles.extra={}", STANDARD.encode(lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::spec::{Disk, Source, Spec};
    use crate::machine::state::KeyInjection;

    fn state() -> State {
        let source = Source::CloudImage { url: "https://x/debian.qcow2".into(), checksum: None };
        let mut state = State::new(Path::new("/s,t"), "demo".parse().unwrap(), Spec::new(source), 2222);
        state.instance_id = uuid::Uuid::from_bytes([7; 16]);
        state.seed_iso = Some("/s,t/demo/seed.img".into());
        state
    }

    fn line(state: &State, accelerator: Accelerator, uefi: Option<&Uefi>) -> Vec<String> {
        arguments(state, Path::new("/s,t/demo"), &Means { accelerator, uefi, passt: None, shares: &[] })
    }

    #[test]
    fn a_machine_of_defaults_is_exactly_this() {
        let file = |name: &str, rest: &str| format!(r#"{{"driver":"file","filename":"/s,t/demo/{name}",{rest}}}"#);
        let disk = format!(
            r#"{{"driver":"qcow2","node-name":"disk","read-only":false,"file":{}}}"#,
            file("disk.qcow2", r#""discard":"unmap""#)
        );
        let seed = format!(
            r#"{{"driver":"raw","node-name":"seed","read-only":true,"file":{}}}"#,
            file("seed.img", r#""read-only":true"#)
        );
        #[rustfmt::skip]
        let want = [
            "-name", "guest=charly-demo,process=charly-demo",
            "-uuid", "07070707-0707-0707-0707-070707070707",
            "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "4096M",
            "-blockdev", &disk, "-device", "virtio-blk-pci,drive=disk,bootindex=1",
            "-blockdev", &seed, "-device", "virtio-blk-pci,drive=seed",
            "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22",
            "-device", "virtio-net-pci,netdev=net,mac=52:54:00:07:07:07",
            "-device", "virtio-rng-pci",
            "-chardev", "socket,id=console,path=console,server=on,wait=off,logfile=console.log,logappend=on",
            "-serial", "chardev:console",
            "-chardev", "socket,id=agent,path=agent,server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            "-chardev", "socket,id=control,path=qmp,server=on,wait=off",
            "-mon", "chardev=control,mode=control",
            "-display", "none", "-pidfile", "/s,t/demo/pid",
            "-nodefaults", "-no-user-config", "-daemonize",
        ];
        assert_eq!(line(&state(), Accelerator::Kvm, None), want);
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let mut state = state();
        state.desired.forwards = vec![Forward { host: 8080, guest: 80 }];
        state.desired.firmware = Firmware::UefiSecure;
        state.desired.disks = vec![Disk { name: "data.1".into(), size: 1 << 30 }];
        let public = Some("ssh-ed25519 AAAA".to_owned());
        state.key_injection_resolved = Some(KeyInjection { identity: None, public, smbios: true, cloud_init: true });
        let uefi = Uefi { code: "/o/code".into(), variables: "/s,t/demo/uefi.fd".into() };
        let words = line(&state, Accelerator::Emulation, Some(&uefi));
        let after = |option: &str| -> Vec<&str> {
            words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
        };
        assert_eq!((after("-accel"), after("-smp")), (vec!["tcg,thread=single"], vec!["1"]));
        assert_eq!(after("-machine"), ["q35,smm=on", "pflash0=code,pflash1=variables"]);
        assert_eq!(after("-netdev"), ["user,id=net,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80"]);
        assert_eq!(after("-blockdev").len(), 5);
        let data = r#"{"driver":"file","filename":"/s,t/demo/disk-data.1.qcow2","discard":"unmap"}"#;
        let data = format!(r#"{{"driver":"qcow2","node-name":"disk0","read-only":false,"file":{data}}}"#);
        assert!(after("-blockdev").contains(&data.as_str()), "{words:?}");
        assert!(after("-device").contains(&"virtio-blk-pci,drive=disk0,serial=data.1"), "{words:?}");
        let credential = after("-smbios")[0].strip_prefix("type=11,value=io.systemd.credential.binary:tmpfiles.extra=");
        let lines = String::from_utf8(STANDARD.decode(credential.unwrap()).unwrap()).unwrap();
        let key = STANDARD.encode("ssh-ed25519 AAAA\n");
        assert_eq!(
            lines,
            format!(
                "d /home/debian/.ssh 0700 debian debian -\n\
                 f~ /home/debian/.ssh/authorized_keys 0600 debian debian - {key}\n"
            )
        );
    }

    #[test]
    fn what_runs_beside_it_is_reached_by_what_it_was_handed() {
        let means = Means { accelerator: Accelerator::Kvm, uefi: None, passt: Some(7), shares: &[8, 9] };
        let words = arguments(&state(), Path::new("/s,t/demo"), &means).join(" ");
        for want in [
            "-netdev stream,id=net,server=off,addr.type=fd,addr.str=7 ",
            "-object memory-backend-memfd,id=memory,size=4096M,share=on -machine memory-backend=memory ",
            "-chardev socket,id=share1,fd=9 -device vhost-user-fs-pci,chardev=share1,tag=share1 ",
        ] {
            assert!(words.contains(want), "{words}");
        }
        assert!(!words.contains("hostfwd"), "{words}");
    }
}
