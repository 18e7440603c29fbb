//! A machine's life: absent, built, stopped, booting, ready, and back.
//!
//! Every step of a making is repeated without harm: whatever ends it early, the same command goes on from there.
//! Invariant: only [`Machines::destroy`], [`Machines::reap`] and [`Machines::rebuild`] delete a disk, and only where they are told to.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use charly_target_core::Interrupts;
use charly_target_core::fetch::Fetcher;

use super::backend::{BackendKind, NotLaunched, Power, VmBackend};
use super::disk::OnSnapshot;
use super::qemu::{Qemu, line};
use super::spec::{DiskFormat, Spec};
use super::state::{self, Lock, Made, Snapshot, Started, home};
use super::{Autostart, MachineError, Name, State, disk, port, ready, spec};

/// How often another port is tried where somebody takes the one that was free.
const PORTS: usize = 8;

/// Where machines and what they are made of are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of all machines, each in one of its own.
    pub folder: PathBuf,
    /// The folder of bases.
    pub bases: PathBuf,
    /// A folder for what may be thrown away.
    pub work: PathBuf,
    /// The user's home folder, which `~` in the path of a key stands for, and where ssh_config(5) lies.
    pub home: PathBuf,
    /// How machines are started with their host.
    pub autostart: Autostart,
}

#[cfg(test)]
impl Settings {
    /// Keeps everything below one folder.
    pub(super) fn below(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name);
        let autostart = Autostart { units: at("units"), program: at("charly"), environment: Vec::new() };
        Self { folder: at("vm"), bases: at("base"), work: at("work"), home: at("home"), autostart }
    }
}

/// All machines of a user.
#[derive(Debug, Clone)]
pub struct Machines {
    pub(super) settings: Settings,
}

/// Where a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its making was begun, and goes on with the same command.
    HalfMade,
    /// Its disk is there.
    Built,
    /// It has no power.
    Stopped,
    /// It has power, and nobody can log in yet.
    Booting,
    /// One can log in.
    Ready,
    /// It is held.
    Paused,
    /// What ran it ended without a shutdown.
    Crashed,
}

/// What a machine's making or starting is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A distribution's image is fetched, where it is not there.
    Fetching(String),
    /// A base is made of packages, where it is not there.
    Bootstrapping(String),
    /// The disk is made.
    Disk,
    /// The machine is given power.
    Starting,
    /// It runs more slowly than it could.
    Slow(String),
    /// QEMU itself carries its network, because passt does not.
    NotPasst(String),
    /// Its port was taken, and it has another.
    Port(u16),
    /// It is waited for.
    Booting,
}

/// Sees what a making or a start is at.
pub type Tell<'a> = &'a mut dyn FnMut(Step);

/// How a machine is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// How long it may take for its shutdown.
    pub patience: Duration,
    /// Whether its power is cut where it takes longer.
    pub force: bool,
}

/// What is left of a machine that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// The disk, where it was kept.
    pub kept: Option<PathBuf>,
}

impl Machines {
    /// Takes the folders.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Returns the folder of all machines.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Lists the machines.
    pub fn names(&self) -> Result<Vec<Name>, MachineError> {
        state::names(&self.settings.folder)
    }

    /// Returns a machine; one that is not there is refused.
    pub fn get(&self, name: &Name) -> Result<State, MachineError> {
        State::load(&self.settings.folder, name)?.ok_or_else(|| {
            MachineError::invalid(
                format!("there is no machine `{name}`"),
                format!("make it with `charly vm create {name}`"),
            )
        })
    }

    /// Finds out where a machine stands.
    pub fn stage(&self, state: &State) -> Result<Stage, MachineError> {
        match state.made {
            Made::Begun => return Ok(Stage::HalfMade),
            Made::Built => return Ok(Stage::Built),
            Made::Whole => {}
        }
        let home = self.home(&state.name);
        Ok(match backend(state.backend).power(&home, state)? {
            // With its host's power gone nothing crashed.
            Power::Lost if state.observed.as_ref().is_some_and(|seen| seen.host_boot == host_boot()) => Stage::Crashed,
            Power::Off | Power::Lost => Stage::Stopped,
            Power::Paused => Stage::Paused,
            Power::On if ready::answers(&state.endpoint(&self.settings.folder)) => Stage::Ready,
            Power::On => Stage::Booting,
        })
    }

    /// Makes a machine's disk and no more; goes on with a making that was begun.
    pub fn build(
        &self,
        name: &Name,
        spec: &Spec,
        fetcher: &mut Fetcher,
        tell: Tell<'_>,
    ) -> Result<State, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let state = self.begin(name, spec, false, &lock)?;
        self.built(state, fetcher, tell, &lock)
    }

    /// Makes a machine; goes on with a making that was begun. With `adopt` it takes the disk that an earlier one left.
    pub fn create(
        &self,
        name: &Name,
        spec: &Spec,
        adopt: bool,
        fetcher: &mut Fetcher,
        tell: Tell<'_>,
    ) -> Result<State, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let state = self.begin(name, spec, adopt, &lock)?;
        let mut state = self.built(state, fetcher, tell, &lock)?;
        self.seeded(&mut state)?;
        self.autostarted(&state)?;
        state.made = Made::Whole;
        state.save(&self.settings.folder, &lock)?;
        self.follow_in_ssh_config()?;
        Ok(state)
    }

    /// Gives a machine power; fine where it has it.
    pub fn start(&self, name: &Name, tell: Tell<'_>) -> Result<State, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        self.started(self.whole(name)?, tell, &lock)
    }

    /// Waits until one can log in to a machine.
    pub fn await_ready(
        &self,
        state: &State,
        at_most: Duration,
        interrupts: &Interrupts,
        tell: Tell<'_>,
    ) -> Result<(), MachineError> {
        tell(Step::Booting);
        let home = self.home(&state.name);
        let runs = || Ok(matches!(backend(state.backend).power(&home, state)?, Power::On | Power::Paused));
        ready::wait(&state.name, &state.endpoint(&self.settings.folder), at_most, interrupts, &runs)
    }

    /// Takes a machine's power; fine where it has none.
    pub fn stop(&self, name: &Name, how: Stop) -> Result<(), MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        self.stopped(&self.whole(name)?, how, &lock)
    }

    /// Takes a machine's power and gives it back.
    pub fn restart(&self, name: &Name, how: Stop, tell: Tell<'_>) -> Result<State, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let state = self.whole(name)?;
        self.stopped(&state, how, &lock)?;
        self.started(state, tell, &lock)
    }

    /// Writes a machine's seed anew, from what is declared now; its next boot does as a first one does.
    pub fn reseed(&self, name: &Name, spec: &Spec) -> Result<State, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let mut state = self.whole(name)?;
        self.needs_rest(&state, "given another seed")?;
        declare(&mut state, spec);
        state.reseeded += 1;
        self.seeded(&mut state)?;
        state.save(&self.settings.folder, &lock)?;
        Ok(state)
    }

    /// Tells whether a machine's first boot was told otherwise than is declared now.
    pub fn needs_reseed(&self, state: &State, spec: &Spec) -> Result<bool, MachineError> {
        let mut state = state.clone();
        declare(&mut state, spec);
        let rendered = self.rendered(&state)?;
        Ok(state.cloud_init_rendered_digest.is_some_and(|digest| digest != rendered.digest()))
    }

    /// Takes a snapshot of a machine's disk, whether it runs or not.
    pub fn take_snapshot(&self, name: &Name, snapshot: &str) -> Result<Snapshot, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let mut state = self.whole(name)?;
        if !spec::word(snapshot) {
            let hint = "write letters, digits and `.+_-`";
            return Err(MachineError::invalid(format!("`{snapshot}` is no name for a snapshot"), hint));
        }
        if held(&state)?.iter().any(|held| held == snapshot) {
            let hint = "choose another name, or delete it first";
            return Err(MachineError::invalid(format!("`{name}` has a snapshot `{snapshot}`"), hint));
        }
        let home = self.home(name);
        let at_rest = match backend(state.backend).power(&home, &state)? {
            Power::On | Power::Paused => backend(state.backend).snapshot(&home, &state, snapshot)?,
            power => {
                disk::snapshot(&state.disk_path, OnSnapshot::Create, snapshot)?;
                power == Power::Off
            }
        };
        let taken = Snapshot { name: snapshot.to_owned(), taken: now(), at_rest };
        state.snapshots.retain(|known| known.name != snapshot);
        state.snapshots.push(taken.clone());
        state.save(&self.settings.folder, &lock)?;
        Ok(taken)
    }

    /// Lists a machine's snapshots: those that its disk holds, whoever took them.
    pub fn snapshots(&self, name: &Name) -> Result<Vec<Snapshot>, MachineError> {
        let state = self.get(name)?;
        let held = disk::info(&state.disk_path, DiskFormat::Qcow2)?.snapshots.into_iter();
        let known = |held: disk::Held| {
            let known = state.snapshots.iter().find(|known| known.name == held.name).cloned();
            known.unwrap_or(Snapshot { name: held.name, taken: held.date_sec, at_rest: false })
        };
        Ok(held.map(known).collect())
    }

    /// Puts a machine's disk back to what it was at a snapshot. It must have no power.
    pub fn revert(&self, name: &Name, snapshot: &str) -> Result<(), MachineError> {
        let _lock = Lock::take(&self.settings.folder, name)?;
        let state = self.whole(name)?;
        self.needs_rest(&state, "put back")?;
        known_snapshot(&state, snapshot)?;
        disk::snapshot(&state.disk_path, OnSnapshot::Revert, snapshot)
    }

    /// Forgets a snapshot, whether the machine runs or not.
    pub fn forget_snapshot(&self, name: &Name, snapshot: &str) -> Result<(), MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let mut state = self.whole(name)?;
        known_snapshot(&state, snapshot)?;
        let home = self.home(name);
        match backend(state.backend).power(&home, &state)? {
            Power::On | Power::Paused => backend(state.backend).forget(&home, &state, snapshot)?,
            Power::Off | Power::Lost => disk::snapshot(&state.disk_path, OnSnapshot::Delete, snapshot)?,
        }
        state.snapshots.retain(|known| known.name != snapshot);
        state.save(&self.settings.folder, &lock)
    }

    /// Refuses a name that there is nothing of to take away.
    pub fn is_there(&self, name: &Name, disk: bool) -> Result<(), MachineError> {
        let left = self.home(name).join(DISK);
        if State::load(&self.settings.folder, name)?.is_some() || (disk && left.exists()) {
            return Ok(());
        }
        let hint = if left.exists() {
            format!("its disk is still there; `charly vm destroy {name} --disk` deletes it")
        } else {
            "`charly vm list` shows those there are".to_owned()
        };
        Err(MachineError::invalid(format!("there is no machine `{name}`"), hint))
    }

    /// Takes a machine away. Its disk stays, with the keys that open it, unless `disk` says otherwise.
    pub fn destroy(&self, name: &Name, disk: bool) -> Result<Destroyed, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        self.is_there(name, disk)?;
        self.destroyed(name, disk, &lock)
    }

    pub(super) fn destroyed(&self, name: &Name, disk: bool, _: &Lock) -> Result<Destroyed, MachineError> {
        let home = self.home(name);
        let (state, left) = (State::load(&self.settings.folder, name)?, home.join(DISK));
        let stays = |state: &State| !disk || !state.disk_path.starts_with(&home);
        if let Some(state) = &state {
            if stays(state) {
                self.laid_to_rest(state)?;
            } else {
                backend(state.backend).cut(&home, state)?;
            }
            self.end_unit(name);
            // Before the machine, so that no unit is left that starts none.
            self.disable(name)?;
        }
        let path = state.map_or(left, |state| state.disk_path);
        // What was adopted where it lay is its owner's.
        let keeps = (!disk || !path.starts_with(&home)) && path.exists();
        let kept: &[&str] = if keeps { &[DISK, KEY, KEY_PUBLIC, HOST_KEY, HOST_KEY_PUBLIC, UEFI] } else { &[] };
        // The state goes first: from then on there is no machine, and what is left is only files.
        remove(&home.join("state.json"))?;
        for entry in fs::read_dir(&home).map_err(MachineError::file("read", &home))? {
            let entry = entry.map_err(MachineError::file("read", &home))?;
            let name = entry.file_name();
            let is_disk = !disk && name.as_encoded_bytes().starts_with(spec::FURTHER.as_bytes());
            if !is_disk && !kept.iter().any(|kept| name == *kept) {
                remove(&entry.path())?;
            }
        }
        if fs::read_dir(&home).map_err(MachineError::file("read", &home))?.next().is_none() {
            fs::remove_dir(&home).map_err(MachineError::file("removed", &home))?;
        }
        self.follow_in_ssh_config()?;
        Ok(Destroyed { kept: keeps.then_some(path) })
    }

    /// Opens a running machine's serial console.
    pub fn console(&self, state: &State) -> Result<UnixStream, MachineError> {
        let home = self.home(&state.name);
        if !matches!(backend(state.backend).power(&home, state)?, Power::On | Power::Paused) {
            let hint = format!("start it with `charly vm start {}`", state.name);
            return Err(MachineError::refused(format!("`{}` does not run", state.name), hint));
        }
        backend(state.backend).console(&home).map_err(MachineError::file("opened", &home))
    }

    pub(super) fn home(&self, name: &Name) -> PathBuf {
        home(&self.settings.folder, name)
    }

    pub(super) fn whole(&self, name: &Name) -> Result<State, MachineError> {
        let state = self.get(name)?;
        if state.made == Made::Whole {
            return Ok(state);
        }
        let what = format!("the making of `{name}` has not come to its end");
        Err(MachineError::refused(what, "the command that began it goes on with it"))
    }

    pub(super) fn needs_rest(&self, state: &State, what: &str) -> Result<(), MachineError> {
        match backend(state.backend).power(&self.home(&state.name), state)? {
            Power::Off | Power::Lost => Ok(()),
            Power::On | Power::Paused => Err(MachineError::refused(
                format!("`{}` runs, and cannot be {what}", state.name),
                format!("stop it first: `charly vm stop {}`", state.name),
            )),
        }
    }

    fn started(&self, mut state: State, tell: Tell<'_>, lock: &Lock) -> Result<State, MachineError> {
        let home = self.home(&state.name);
        let runner = backend(state.backend);
        if matches!(runner.power(&home, &state)?, Power::On | Power::Paused) {
            return Ok(state);
        }
        if !state.disk_path.exists() {
            let what = format!("the disk of `{}` is gone, `{}`", state.name, state.disk_path.display());
            return Err(MachineError::refused(what, "put it back where it was"));
        }
        tell(Step::Starting);
        for _ in 0..PORTS {
            match runner.launch(&home, &state) {
                Ok(launched) => {
                    if let Some(why) = launched.slow {
                        tell(Step::Slow(why));
                    }
                    if let Some(why) = launched.not_passt {
                        tell(Step::NotPasst(why));
                    }
                    let (accelerator, network) = (launched.accelerator, launched.network);
                    state.observed = Some(Started { host_boot: host_boot(), accelerator, network, at: now() });
                    state.save(&self.settings.folder, lock)?;
                    return Ok(state);
                }
                Err(NotLaunched::Error(error)) => return Err(error),
                Err(NotLaunched::PortTaken(said)) => {
                    let taken = state.desired.forwards.iter().map(|forward| forward.host).chain(state.desired.ssh.port);
                    if taken.into_iter().any(|port| !port::is_free(port)) {
                        return Err(MachineError::refused(
                            format!("a port of `{}` is somebody else's: {said}", state.name),
                            "stop whoever has it, or declare another",
                        ));
                    }
                    state.ssh_port = port::free(&self.ports()?)?;
                    self.know_host(&state)?;
                    state.save(&self.settings.folder, lock)?;
                    self.follow_in_ssh_config()?;
                    tell(Step::Port(state.ssh_port));
                }
            }
        }
        Err(MachineError::failed("no port stays free long enough", "try again"))
    }

    fn stopped(&self, state: &State, how: Stop, _: &Lock) -> Result<(), MachineError> {
        let home = self.home(&state.name);
        let runner = backend(state.backend);
        if matches!(runner.power(&home, state)?, Power::On | Power::Paused) {
            let pressed = runner.press(&home, state);
            if pressed.is_ok() && runner.await_off(&home, state, how.patience)? {
                return Ok(());
            }
            if !how.force {
                pressed?;
                let what = format!("`{}` did not shut down within {} s", state.name, how.patience.as_secs());
                let hint = format!(
                    "wait longer with `--shutdown-timeout`, or cut its power: `charly vm stop {} --force`",
                    state.name
                );
                return Err(MachineError::failed(what, hint));
            }
        }
        runner.cut(&home, state)
    }

    /// Takes the power of a machine that is not coming back, as its button does while it minds that: its disks stay.
    pub(super) fn laid_to_rest(&self, state: &State) -> Result<(), MachineError> {
        let (home, runner) = (self.home(&state.name), backend(state.backend));
        if runner.power(&home, state)? == Power::On && runner.press(&home, state).is_ok() {
            runner.await_off(&home, state, BEDTIME)?;
        }
        runner.cut(&home, state)
    }

    /// Returns the ports that machines have, running or not.
    pub(super) fn ports(&self) -> Result<Vec<u16>, MachineError> {
        // One whose file cannot be read stands in nobody's way.
        let states = self.names()?.into_iter().filter_map(|name| State::load(&self.settings.folder, &name).ok()?);
        Ok(states
            .flat_map(|state| {
                state.desired.forwards.iter().map(|forward| forward.host).chain([state.ssh_port]).collect::<Vec<_>>()
            })
            .collect())
    }
}

/// How long a machine may take to shut down whose disks stay when it goes.
const BEDTIME: Duration = Duration::from_secs(90);

/// What a machine said on its console, below its folder.
pub const CONSOLE_LOG: &str = line::CONSOLE_LOG;

pub(super) const DISK: &str = "disk.qcow2";
pub(super) const KEY: &str = "id_ed25519";
const KEY_PUBLIC: &str = "id_ed25519.pub";
pub(super) const HOST_KEY: &str = "host_key";
const HOST_KEY_PUBLIC: &str = "host_key.pub";
pub(super) const UEFI: &str = "uefi.fd";

/// Returns what runs machines of a kind.
pub(super) fn backend(kind: BackendKind) -> &'static dyn VmBackend {
    match kind {
        BackendKind::Qemu => &Qemu,
    }
}

/// Takes over what a first boot sets up.
fn declare(state: &mut State, spec: &Spec) {
    state.desired.cloud_init = spec.cloud_init.clone();
    state.desired.shares.clone_from(&spec.shares);
}

fn held(state: &State) -> Result<Vec<String>, MachineError> {
    let held = disk::info(&state.disk_path, DiskFormat::Qcow2)?.snapshots;
    Ok(held.into_iter().map(|held| held.name).collect())
}

pub(super) fn known_snapshot(state: &State, snapshot: &str) -> Result<(), MachineError> {
    let held = held(state)?;
    if held.iter().any(|held| held == snapshot) {
        return Ok(());
    }
    let what = format!("`{}` has no snapshot `{snapshot}`", state.name);
    let hint = if held.is_empty() { "it has none".to_owned() } else { format!("it has `{}`", held.join("`, `")) };
    Err(MachineError::invalid(what, hint))
}

pub(super) fn remove(path: &Path) -> Result<(), MachineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(MachineError::file("removed", path)(error)),
        _ => Ok(()),
    }
}

/// Returns the boot that this machine is in.
fn host_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
