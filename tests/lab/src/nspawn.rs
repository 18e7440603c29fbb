//! Container guests: an overlay for a disk, a network namespace, and a systemd of their own.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::cgroup::Cgroup;
use crate::image::Image;
use crate::{Error, host};

const LAUNCH: &str = include_str!("nspawn.sh");

/// The guest's end of its link.
pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 231, number, 2)
}

/// Makes the guest's disk and network.
pub(crate) fn create(folder: &Path, id: &str, name: &str, number: u8, image: &Image) -> Result<(), Error> {
    for layer in ["root", "upper", "work", "volume"] {
        host::mkdir(&folder.join(layer))?;
    }
    let root = folder.join("root");
    // With redirects a folder of the image can be renamed, as on any disk.
    let layers = format!(
        "redirect_dir=on,xino=auto,lowerdir={},upperdir={1}/upper,workdir={1}/work",
        image.root().display(),
        folder.display(),
    );
    host::run("mount", &["-t", "overlay", "charly-lab", "-o", &layers, host::text(&root)])?;
    host::write(&root.join("etc/hostname"), format!("{name}\n"))?;
    host::write(&root.join("etc/hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"))?;
    for (key, mode) in [("host_key", "0600"), ("host_key.pub", "0644")] {
        let place = root.join("etc/ssh").join(key.replace("host_key", "ssh_host_ed25519_key"));
        host::run("install", &["-m", mode, host::text(&folder.join(key)), host::text(&place)])?;
    }

    let (netns, link) = (&namespace(id), &format!("lab{number}"));
    let (ours, theirs) = (format!("10.231.{number}.1"), format!("{}/24", address(number)));
    host::run("ip", &["netns", "add", netns])?;
    host::run("ip", &["link", "add", link, "type", "veth", "peer", "name", "host0", "netns", netns])?;
    host::run("ip", &["addr", "add", &format!("{ours}/24"), "dev", link])?;
    host::run("ip", &["link", "set", link, "up"])?;
    host::run("ip", &["-n", netns, "addr", "add", &theirs, "dev", "host0"])?;
    host::run("ip", &["-n", netns, "link", "set", "host0", "up"])?;
    host::run("ip", &["-n", netns, "link", "set", "lo", "up"])?;
    host::run("ip", &["-n", netns, "route", "add", "default", "via", &ours])?;
    Ok(())
}

/// Starts the guest's systemd.
pub(crate) fn start(folder: &Path, id: &str, name: &str, group: &Cgroup) -> Result<(), Error> {
    let (root, volume) = (folder.join("root"), folder.join("volume"));
    let guest = [host::text(&root), name, &namespace(id), host::text(&volume)];
    let program = [&["unshare", "--mount", "bash", "-c", LAUNCH, "nspawn"], &guest[..]].concat();
    group.start(&program, &folder.join("console.log"))
}

/// Takes the network and the disk of an ended guest apart, as far as they were made.
pub(crate) fn remove(folder: &Path, id: &str, number: u8) -> Result<(), Error> {
    // The link first: a namespace takes its devices with it, but in its own time.
    let link = format!("lab{number}");
    if Path::new("/sys/class/net").join(&link).exists() {
        host::run("ip", &["link", "del", &link])?;
    }
    let netns = namespace(id);
    if Path::new("/run/netns").join(&netns).exists() {
        host::run("ip", &["netns", "del", &netns])?;
    }
    let root = folder.join("root");
    if host::read(Path::new("/proc/self/mounts"))?.contains(&format!(" {} ", root.display())) {
        host::run("umount", &[host::text(&root)])?;
    }
    Ok(())
}

/// Sets the guest's link up or down.
pub(crate) fn link(number: u8, up: bool) -> Result<(), Error> {
    host::run("ip", &["link", "set", &format!("lab{number}"), if up { "up" } else { "down" }]).map(drop)
}

fn namespace(id: &str) -> String {
    format!("lab-{id}")
}
