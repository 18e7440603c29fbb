//! The caching package proxy: guests have no route to the outside, only this.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::{Error, Lab, host};

/// Where host and guests alike find the proxy.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 231, 0, 1)), 13142);
const GROUP: &str = "charly-lab-proxy";

/// The line of apt's configuration that leads to the proxy.
pub(crate) fn apt_option() -> String {
    format!("Acquire::http::Proxy \"http://{ADDRESS}\"")
}

/// Starts the proxy unless it answers already.
pub(crate) fn start(lab: &Lab) -> Result<(), Error> {
    let _lock = lab.lock("proxy.lock")?;
    // On the loopback device an address needs no peer, and guests reach it through their own link. Before it is there,
    // whoever answers is somebody else on the host's network.
    host::run("ip", &["addr", "replace", &format!("{}/32", ADDRESS.ip()), "dev", "lo"])?;
    if answers() {
        return Ok(());
    }
    let folder = lab.state().join("proxy");
    let conf = folder.join("conf");
    host::remove(&conf)?;
    for path in ["cache", "log"] {
        host::mkdir(&folder.join(path))?;
    }
    // Debian's own folder holds the lists of known mirrors and the pages the proxy wants.
    host::run("cp", &["-r", "/etc/apt-cacher-ng", host::text(&conf)])?;
    let (ip, port) = (ADDRESS.ip(), ADDRESS.port());
    let lines = format!(
        "CacheDir: {folder}/cache\nLogDir: {folder}/log\nBindAddress: {ip}\nPort: {port}\nExThreshold: 4\n",
        folder = folder.display(),
    );
    host::write(&conf.join("acng.conf"), lines)?;
    Cgroup::named(GROUP)?.start(&["apt-cacher-ng", "-c", host::text(&conf), "ForeGround=1"], &folder.join("output"))?;
    let end = Instant::now() + Duration::from_secs(20);
    while !answers() {
        if Instant::now() > end {
            let log = folder.join("output");
            return Err(Error::Host(format!("the package proxy did not start; see `{}`", log.display())));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Stops the proxy and takes its address away; the cache stays.
pub(crate) fn stop(lab: &Lab) -> Result<(), Error> {
    let _lock = lab.lock("proxy.lock")?;
    let group = Cgroup::named(GROUP)?;
    if group.populated() {
        group.kill()?;
        host::run("ip", &["addr", "del", &format!("{}/32", ADDRESS.ip()), "dev", "lo"])?;
    }
    Ok(())
}

fn answers() -> bool {
    TcpStream::connect_timeout(&ADDRESS, Duration::from_millis(200)).is_ok()
}
