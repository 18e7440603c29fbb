//! Who logs in: locked identities, and agents that hold them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::kit::Result;
use crate::remote::Remote;

const PASSPHRASE: &str = "open sesame";

#[test]
fn a_locked_identity_is_asked_for_and_an_agent_spares_the_question() -> Result {
    // A server bears so many failures in so short a time from nobody.
    let lenient = "echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/lenient.conf";
    let Some(mut remote) = Remote::prepared("sshagent", lenient)? else { return Ok(()) };
    remote.world.guest.reboot()?; // Some units run at the first boot alone.
    remote.world.remember()?;
    let (locked, other) = (remote.home().join("locked"), remote.home().join("other"));
    std::fs::copy(remote.world.guest.key(), &locked).unwrap();
    ssh_keygen(&["-p", "-P", "", "-N", PASSPHRASE, "-f", locked.to_str().unwrap()]);
    ssh_keygen(&["-t", "ed25519", "-N", "", "-f", other.to_str().unwrap()]);
    let status = "bundle status @";

    remote.identify_by(Some(&locked));
    let refused = remote.run("deploy", status).exits(4).error();
    assert!(refused.contains("it is locked, and nobody can be asked") && refused.contains("hint: "), "{refused}");
    let (code, said) = remote.on_a_terminal("deploy", status, "close sesame");
    assert_eq!((code, said.matches("passphrase of").count()), (4, 3), "{said}");
    assert!(said.contains("the passphrase is another"), "{said}");
    let (code, said) = remote.on_a_terminal("deploy", status, PASSPHRASE);
    assert_eq!((code, said.matches("passphrase of").count()), (0, 1), "{said}");
    assert!(!said.contains(PASSPHRASE), "{said}");
    // However often it is connected to: a reboot is many attempts.
    let (code, said) = remote.on_a_terminal("deploy", "bundle add @ boots -y", PASSPHRASE);
    assert_eq!((code, said.matches("passphrase of").count()), (0, 1), "{said}");
    assert!(said.contains("it is back after"), "{said}");
    let (code, said) = remote.on_a_terminal("deploy", "bundle del @ -y", "\u{3}");
    assert_eq!(code, 130, "{said}");
    let (code, said) = remote.on_a_terminal("deploy", "bundle del @ -y", PASSPHRASE);
    assert_eq!(code, 0, "{said}");

    let socket = remote.home().join("agent");
    let agent = Agent::start(&socket);
    remote.ask_agent(&socket);
    remote.run("deploy", status).exits(4);
    agent.add(&locked, &remote.home().join("askpass"));
    remote.run("deploy", status).exits(0);
    // The identity that is named is the only one, whatever the agent holds; without one, what it holds is tried.
    remote.identify_by(Some(&other));
    let refused = remote.run("deploy", status).exits(4).error();
    assert!(refused.contains("other") && !refused.contains("of the agent"), "{refused}");
    remote.identify_by(None);
    remote.run("deploy", status).exits(0);
    for (line, code) in [("IdentitiesOnly yes", 4), ("IdentityAgent none", 4), ("IdentityAgent SSH_AUTH_SOCK", 0)] {
        remote.configure(&format!("Host *\n {line}\n IdentityFile {}\n", other.display()));
        remote.run("deploy", status).exits(code);
    }
    remote.there("deploy", "hello");
    remote.gone("deploy", "hello");
    Ok(())
}

fn ssh_keygen(arguments: &[&str]) {
    let status = Command::new("ssh-keygen").arg("-q").args(arguments).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "{arguments:?}");
}

/// An agent of OpenSSH's.
#[derive(Debug)]
struct Agent {
    child: Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(socket: &Path) -> Self {
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(socket).stdout(Stdio::null()).spawn().unwrap();
        while !socket.exists() {
            std::thread::yield_now();
        }
        Self { child, socket: socket.to_owned() }
    }

    /// Gives it a locked identity.
    fn add(&self, identity: &Path, askpass: &Path) {
        std::fs::write(askpass, format!("#!/bin/sh\necho '{PASSPHRASE}'\n")).unwrap();
        std::fs::set_permissions(askpass, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(identity).stdin(Stdio::null()).env("SSH_AUTH_SOCK", &self.socket);
        add.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        assert!(add.status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
