//! Virtual machine guests: a disk laid over the image's, a cloud-init seed, and QEMU's own network.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::image::Image;
use crate::{Error, Lab, host};

/// Runs a program in the emulator's tree, with the lab's folder and the host's devices in it: ROOT STATE PROGRAM…
const ENTER: &str = r#"
root=$0 state=$1; shift
mount --make-rprivate / && mkdir -p "$root$state" && mount --bind "$state" "$root$state" &&
mount --rbind /dev "$root/dev" && mount --rbind /proc "$root/proc" && exec chroot "$root" "$@"
"#;

/// Makes the guest's disk and its cloud-init seed.
pub(crate) fn create(lab: &Lab, folder: &Path, name: &str, image: &Image) -> Result<(), Error> {
    let (base, disk) = (image.disk(), folder.join("disk.qcow2"));
    let base = host::text(&base);
    inside(lab, image, &["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, host::text(&disk)])?;
    let seed = folder.join("seed");
    host::mkdir(&seed)?;
    host::write(&seed.join("meta-data"), format!("instance-id: {name}\nlocal-hostname: {name}\n"))?;
    // The users are the image's; of cloud-init the guest wants its name and a host key the lab knows.
    let indented = |key: &str| key.trim_end().replace('\n', "\n    ");
    let user_data = format!(
        "#cloud-config\nmanage_etc_hosts: localhost\nusers: []\ndisable_root: false\nssh_keys:\n  ed25519_private: |\n    \
         {}\n  ed25519_public: {}\n",
        indented(&host::read(&folder.join("host_key"))?),
        host::read(&folder.join("host_key.pub"))?.trim_end(),
    );
    host::write(&seed.join("user-data"), user_data)?;
    let iso = folder.join("seed.iso");
    let target = ["-o", host::text(&iso), host::text(&seed)];
    inside(lab, image, &[&["xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r"], &target[..]].concat())?;
    Ok(())
}

/// Starts the machine.
pub(crate) fn start(lab: &Lab, folder: &Path, port: u16, image: &Image, group: &Cgroup) -> Result<(), Error> {
    let at = |name: &str| folder.join(name).display().to_string();
    let (kernel, initrd) = (image.kernel(), image.initrd());
    let disk = format!("file={},if=virtio,format=qcow2", at("disk.qcow2"));
    let seed = format!("file={},if=virtio,format=raw,readonly=on", at("seed.iso"));
    let network = format!("user,id=net0,hostfwd=tcp:127.0.0.1:{port}-:22");
    let serial = format!("file:{}", at("console.log"));
    let control = format!("unix:{},server=on,wait=off", at("qmp"));
    #[rustfmt::skip]
    let program = [
        "qemu-system-x86_64",
        "-accel", lab.accelerator(), "-cpu", "max", "-machine", "q35", "-m", "2048", "-smp", "1",
        "-kernel", host::text(&kernel), "-initrd", host::text(&initrd),
        "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0",
        "-drive", &disk, "-drive", &seed,
        "-netdev", &network, "-device", "virtio-net-pci,netdev=net0", "-device", "virtio-rng-pci",
        "-display", "none", "-serial", &serial, "-qmp", &control,
    ];
    let emulator = image.emulator();
    group.start(&[&enter(lab, &emulator)[..], &program[..]].concat(), &folder.join("qemu.log"))
}

/// Runs a program of the emulator's tree to its end.
fn inside(lab: &Lab, image: &Image, program: &[&str]) -> Result<(), Error> {
    let emulator = image.emulator();
    let words = [&enter(lab, &emulator)[1..], program].concat();
    host::run("unshare", &words).map(drop)
}

fn enter<'a>(lab: &'a Lab, emulator: &'a Path) -> [&'a str; 7] {
    ["unshare", "--mount", "sh", "-c", ENTER, host::text(emulator), host::text(lab.state())]
}

/// Sets the machine's link up or down through QEMU's control socket.
pub(crate) fn link(folder: &Path, up: bool) -> Result<(), Error> {
    let doing = || Error::io("speak to QEMU");
    let mut socket = UnixStream::connect(folder.join("qmp")).map_err(doing())?;
    let mut answers = BufReader::new(socket.try_clone().map_err(doing())?).lines();
    let set_link = format!(r#"{{"execute":"set_link","arguments":{{"name":"net0","up":{up}}}}}"#);
    for command in ["", r#"{"execute":"qmp_capabilities"}"#, &set_link] {
        socket.write_all(command.as_bytes()).map_err(doing())?;
        // QEMU greets first, and reports events between its answers.
        let answer = loop {
            let line = answers.next().ok_or_else(|| Error::Host("QEMU hung up".into()))?.map_err(doing())?;
            if !line.contains(r#""event""#) {
                break line;
            }
        };
        if answer.contains(r#""error""#) {
            return Err(Error::Host(format!("QEMU refused: {answer}")));
        }
    }
    Ok(())
}
