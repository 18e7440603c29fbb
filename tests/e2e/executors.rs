//! Scripts and files on a machine, and in a container of it, outside of the engine's protocol.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Arc;

use charly_target_core::executor::{ExecutorError, MAX_OUTPUT, ShellOptions};
use charly_target_vm::ssh::{Address, Limits, Machine, Nobody, Settings, Unlocked, Wishes, way};

use crate::kit::Result;
use crate::remote::Remote;

/// A container whose programs are the machine's own.
const PREPARE: &str = "
    mkdir -p /opt/inner && cd /opt/inner && mkdir -p usr etc root tmp run proc sys dev var/lib var/tmp
    mount --bind --read-only /usr usr && cp -a /bin /sbin /lib* . && cp -a /etc/passwd /etc/group etc
    podman run --detach --name inner --network none --env HOME=/root --rootfs /opt/inner sleep infinity";

fn settings(remote: &Remote, inside: Option<&str>) -> Settings {
    let wishes = Wishes {
        identity: Some(remote.world.guest.key().clone()),
        known_hosts: Some(remote.home().join("known_hosts")),
        inside: inside.map(|container| container.parse().unwrap()),
        ..Wishes::default()
    };
    Settings {
        local_user: "nobody".into(),
        local_uid: 65534,
        home: remote.home().into(),
        environment: [].into(),
        config_files: Vec::new(),
        agent: None,
        asker: Arc::new(Nobody),
        unlocked: Unlocked::default(),
        wishes,
        limits: Limits::default(),
    }
}

#[test]
fn scripts_run_and_files_move_on_a_machine_and_in_a_container_of_it() -> Result {
    let Some(remote) = Remote::prepared("executors", PREPARE)? else { return Ok(()) };
    let (address, port) = (remote.world.guest.address(), remote.world.guest.port());
    let address: Address = format!("root@{address}:{port}").parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (inside, root) in [(None, ""), (Some("podman:inner"), "/opt/inner")] {
        let settings = settings(&remote, inside);
        let machine = Machine::new("it", way(&address, &settings).unwrap().hops, settings);
        let executor = runtime.block_on(machine.executor()).unwrap();
        let run = |script: &str, options: &ShellOptions| runtime.block_on(executor.run_shell(script, options));

        let env = [("WHO".to_owned(), "it's $HOME\n`x`".to_owned())].into();
        let options = ShellOptions { env, stdin: b"rest".to_vec(), timeout: None };
        let output = run("printf %s \"$WHO|\"; cat; echo complaint >&2; exit 3", &options).unwrap();
        assert_eq!(
            (output.status, &*output.stdout, &*output.stderr),
            (3, &b"it's $HOME\n`x`|rest"[..], &b"complaint\n"[..])
        );
        let flood = run("head -c 3000000 /dev/zero", &ShellOptions::default()).unwrap();
        assert_eq!((flood.status, flood.stdout.len()), (0, MAX_OUTPUT));
        let hanging = ShellOptions { timeout: Some(std::time::Duration::from_millis(300)), ..ShellOptions::default() };
        assert!(matches!(run("sleep 1000", &hanging), Err(ExecutorError::TimedOut(_))));

        runtime.block_on(executor.put(&mut &*content, "/var/tmp/it's here", 0o640)).unwrap();
        let found = format!("stat -c %a '{root}/var/tmp/it'\\''s here'; ls -A {root}/var/tmp | wc -l");
        assert_eq!(remote.world.ok("root", &found).lines().next(), Some("640"));
        let mut back = Vec::new();
        assert_eq!(runtime.block_on(executor.get("/var/tmp/it's here", &mut back)).unwrap(), 3_000_000);
        assert!(back == content, "{inside:?}");
        assert!(runtime.block_on(executor.put(&mut &*content, "/nowhere/x", 0o640)).is_err());
        assert!(runtime.block_on(executor.get("/nowhere/x", &mut back)).is_err());

        let there = format!("127.0.0.1:{port}").parse().unwrap();
        let here = runtime.block_on(executor.forward(there)).unwrap();
        let mut greeting = [0; 8];
        TcpStream::connect(here).unwrap().read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"SSH-2.0-");
        runtime.block_on(executor.close()).unwrap();
        assert!(TcpStream::connect(here).is_err(), "the way there ends with it");
        assert!(run("true", &ShellOptions::default()).is_err(), "it is closed");
    }
    Ok(())
}
