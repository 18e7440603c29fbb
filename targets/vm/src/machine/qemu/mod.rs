//! QEMU, by its command line and its control socket.

pub mod line;
mod passt;
pub mod qmp;
mod virtiofsd;

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal};
use serde_json::{Value as Json, json};

use self::line::{Accelerator, Means, Uefi};
use self::qmp::Qmp;
use super::backend::{BackendKind, Launched, NotLaunched, Power, VmBackend};
use super::spec::{Firmware, NetworkBackend};
use super::{MachineError, State, tool};

const PROGRAM: &str = if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };

/// How long a guest's agent may take to say that it is there.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take to bring file systems to rest, which first writes all that is not on the disk yet.
const REST_PATIENCE: Duration = Duration::from_secs(30);

/// How long the kernel may take to end what it was told to kill.
const KILLED: Duration = Duration::from_secs(10);

/// Where distributions keep UEFI's code and the variables it begins with; the secure ones, then the others.
const SECURE_UEFI: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.secboot.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
];
const PLAIN_UEFI: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
];

/// Runs machines by QEMU, one process each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Qemu;

impl VmBackend for Qemu {
    fn kind(&self) -> BackendKind {
        BackendKind::Qemu
    }

    fn power(&self, home: &Path, _: &State) -> Result<Power, MachineError> {
        let path = home.join(line::PID);
        match File::open(&path) {
            // QEMU removes it when its guest has shut down.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Power::Off),
            Err(error) => Err(MachineError::file("read", &path)(error)),
            Ok(file) if holder(&file).map_err(MachineError::file("read", &path))?.is_none() => Ok(Power::Lost),
            Ok(_) => match Qmp::connect(home, line::CONTROL).and_then(|mut qmp| qmp.status()) {
                Ok(status) if status == "paused" => Ok(Power::Paused),
                // One that has no word for us, because another holds its socket, runs all the same.
                _ => Ok(Power::On),
            },
        }
    }

    fn launch(&self, home: &Path, state: &State) -> Result<Launched, NotLaunched> {
        let (accelerator, slow) = match kvm() {
            Ok(()) => (Accelerator::Kvm, None),
            Err(why) => (Accelerator::Emulation, Some(why)),
        };
        let uefi = uefi(home, state.desired.firmware)?;
        passt::await_end(home)?;
        let (network, passt, not_passt) = network(home, state, accelerator)?;
        let shares = &state.desired.shares;
        let shared = virtiofsd::start(home, shares, &state.ssh_user)?;
        let means = Means {
            accelerator,
            uefi: uefi.as_ref(),
            passt: passt.as_ref().map(OwnedFd::as_raw_fd),
            shares: &shared.iter().map(OwnedFd::as_raw_fd).collect::<Vec<_>>(),
        };
        let mut command = tool::command(PROGRAM);
        command.current_dir(home).args(line::arguments(state, home, &means));
        let handed: Vec<_> = passt.iter().chain(&shared).collect();
        match tool::finish_with(&mut command, &handed) {
            Ok(_) => Ok(Launched { accelerator: accelerator.name().to_owned(), slow, network, not_passt }),
            Err(MachineError::Program { said, .. }) if said.contains("host forwarding rule") => {
                Err(NotLaunched::PortTaken(said))
            }
            Err(error) => Err(virtiofsd::explained(error, home, shares).into()),
        }
    }

    fn press(&self, home: &Path, state: &State) -> Result<(), MachineError> {
        let mut qmp = control(home, state)?;
        // One that is held hears no button.
        let pressed = qmp.execute("cont", Json::Null).and_then(|_| qmp.execute("system_powerdown", Json::Null));
        pressed.map(drop).map_err(refused(state))
    }

    fn cut(&self, home: &Path, state: &State) -> Result<(), MachineError> {
        if let Some(process) = process(home)? {
            match pidfd_send_signal(&process, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(MachineError::Control { name: state.name.to_string(), source: error.into() }),
            }
            if !ended(&process, KILLED) {
                let hint = "its disk may be on a server that does not answer";
                return Err(MachineError::failed(format!("what runs `{}` does not end", state.name), hint));
            }
        }
        passt::await_end(home)?;
        // Its power was cut on purpose: that is no crash.
        let path = home.join(line::PID);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(MachineError::file("removed", &path)(error)),
            _ => Ok(()),
        }
    }

    fn await_off(&self, home: &Path, _: &State, at_most: Duration) -> Result<bool, MachineError> {
        let off = process(home)?.is_none_or(|process| ended(&process, at_most));
        if off {
            passt::await_end(home)?;
        }
        Ok(off)
    }

    fn console(&self, home: &Path) -> io::Result<UnixStream> {
        qmp::connect(home, line::CONSOLE)
    }

    fn snapshot(&self, home: &Path, state: &State, name: &str) -> Result<bool, MachineError> {
        let mut qmp = control(home, state)?;
        let agent = Agent::freeze(home);
        let taken = qmp.execute("blockdev-snapshot-internal-sync", json!({ "device": line::DISK, "name": name }));
        let at_rest = agent.is_some();
        drop(agent);
        taken.map(|_| at_rest).map_err(refused(state))
    }

    fn forget(&self, home: &Path, state: &State, name: &str) -> Result<(), MachineError> {
        let arguments = json!({ "device": line::DISK, "name": name });
        let forgotten = control(home, state)?.execute("blockdev-snapshot-delete-internal-sync", arguments);
        forgotten.map(drop).map_err(refused(state))
    }
}

/// Starts what carries a machine's network, where that is not QEMU itself; says why where it would have been passt.
fn network(
    home: &Path,
    state: &State,
    accelerator: Accelerator,
) -> Result<(NetworkBackend, Option<OwnedFd>, Option<String>), NotLaunched> {
    let own = |why| Ok((NetworkBackend::Qemu, None, why));
    match (state.desired.network, accelerator) {
        (NetworkBackend::Passt, _) => {
            Ok((NetworkBackend::Passt, Some(passt::start(home, line::forwards(state))?), None))
        }
        // An emulated guest may well stand still for longer than passt waits for its word, some fifteen seconds: then it ends the connection.
        (NetworkBackend::Qemu, _) | (NetworkBackend::Auto, Accelerator::Emulation) => own(None),
        (NetworkBackend::Auto, Accelerator::Kvm) => match passt::start(home, line::forwards(state)) {
            Ok(passt) => Ok((NetworkBackend::Passt, Some(passt), None)),
            Err(NotLaunched::Error(MachineError::Missing { .. })) => own(None),
            Err(NotLaunched::Error(error)) => own(Some(error.to_string())),
            Err(taken) => Err(taken),
        },
    }
}

fn control(home: &Path, state: &State) -> Result<Qmp, MachineError> {
    Qmp::connect(home, line::CONTROL).map_err(|source| MachineError::Control { name: state.name.to_string(), source })
}

fn refused(state: &State) -> impl FnOnce(io::Error) -> MachineError {
    let name = state.name.to_string();
    move |error| match error.kind() {
        io::ErrorKind::Other => {
            MachineError::failed(format!("QEMU refuses for `{name}`: {error}"), "`charly vm show` says how it stands")
        }
        _ => MachineError::Control { name, source: error },
    }
}

/// Returns who holds QEMU's lock on its file: a number alone may be anybody's by now, a lock ends with its holder.
fn holder(file: &File) -> io::Result<Option<Pid>> {
    let held = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    Ok(held.and_then(|lock| lock.pid))
}

/// Returns a handle on the process that runs a machine.
fn process(home: &Path) -> Result<Option<OwnedFd>, MachineError> {
    let path = home.join(line::PID);
    let find = || -> io::Result<Option<OwnedFd>> {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let Some(pid) = holder(&file)? else { return Ok(None) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            process => process?,
        };
        // Had it ended in between, the handle would be somebody else's.
        Ok((holder(&file)? == Some(pid)).then_some(process))
    };
    find().map_err(MachineError::file("read", &path))
}

/// Waits until a process has ended.
fn ended(process: &OwnedFd, at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return false };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            // A signal, such as the user's own.
            Err(_) => {}
        }
    }
}

/// Tells whether the processor itself can run machines, by running an empty one.
fn kvm() -> Result<(), String> {
    let device = File::options().read(true).write(true).open("/dev/kvm");
    device.map_err(|error| format!("`/dev/kvm` cannot be used ({error})"))?;
    let mut probe = tool::command(PROGRAM);
    probe.args(["-accel", "kvm", "-machine", "none", "-nodefaults", "-display", "none", "-monitor", "stdio"]);
    // The end of its input is the end of its monitor, so it is told to leave.
    probe.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = probe.spawn().map_err(|error| error.to_string())?;
    let told = child.stdin.take().map(|mut to| to.write_all(b"quit\n"));
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() && told.is_some() { Ok(()) } else { Err("the kernel starts no machine".to_owned()) }
}

/// Finds UEFI's code, and gives the machine variables of its own once.
fn uefi(home: &Path, firmware: Firmware) -> Result<Option<Uefi>, MachineError> {
    let places = match firmware {
        Firmware::Bios => return Ok(None),
        Firmware::Uefi => PLAIN_UEFI,
        Firmware::UefiSecure => SECURE_UEFI,
    };
    let Some((code, template)) = places.iter().find(|(code, _)| Path::new(code).exists()) else {
        let hint = "install `ovmf` (Debian, Ubuntu) or `edk2-ovmf` (Fedora, Arch)";
        return Err(MachineError::refused("no UEFI is there for the machine to boot with", hint));
    };
    let variables = home.join("uefi.fd");
    if !variables.exists() {
        let part = variables.with_extension("part");
        fs::copy(template, &part)
            .and_then(|_| fs::rename(&part, &variables))
            .map_err(MachineError::file("written", &variables))?;
    }
    Ok(Some(Uefi { code: (*code).to_owned(), variables: variables.display().to_string() }))
}

/// The agent in a guest, while it holds the guest's file systems still.
struct Agent(UnixStream);

impl Agent {
    /// Brings file systems to rest; `None` where there is no agent, or it cannot.
    fn freeze(home: &Path) -> Option<Self> {
        let stream = qmp::connect(home, line::AGENT).ok()?;
        stream.set_read_timeout(Some(AGENT_PATIENCE)).ok()?;
        stream.set_write_timeout(Some(AGENT_PATIENCE)).ok()?;
        let id = std::process::id();
        if ask(&stream, "guest-sync", &json!({ "id": id }))? != id {
            return None;
        }
        stream.set_read_timeout(Some(REST_PATIENCE)).ok()?;
        // What is dropped is thawed, so that one which answers too late is not left frozen.
        let agent = Self(stream);
        ask(&agent.0, "guest-fsfreeze-freeze", &Json::Null).map(|_| agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The first answer may be to what was asked before.
        let thaw = || ask(&self.0, "guest-fsfreeze-thaw", &Json::Null);
        if thaw().is_none() {
            thaw();
        }
    }
}

/// Asks an agent; `None` where it does not answer, or refuses.
fn ask(mut stream: &UnixStream, command: &str, arguments: &Json) -> Option<Json> {
    let mut request = json!({ "execute": command });
    if !arguments.is_null() {
        request["arguments"] = arguments.clone();
    }
    writeln!(stream, "{request}").ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(64 << 10)).read_line(&mut line).ok()?;
    let mut answer: Json = serde_json::from_str(&line).ok()?;
    answer.get_mut("return").map(Json::take)
}
