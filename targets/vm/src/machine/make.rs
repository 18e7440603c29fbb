//! A machine's making: its keys, its disk, its seed, each step as often as it takes.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use charly_ir::Digest;
use charly_target_core::fetch::Fetcher;

use super::base::Base;
use super::life::{DISK, HOST_KEY, KEY, Machines, Settings, Step, Tell, known_snapshot, now};
use super::spec::{Disk, DiskFormat, KeySource, Source, Spec};
use super::state::{KeyInjection, Lock, Made};
use super::{KeyPair, MachineError, Name, Rendered, State, base, bootstrap, disk, identity, port, seed};

impl Machines {
    /// Writes down what a machine is to be, or finds what was written down.
    pub(super) fn begin(&self, name: &Name, spec: &Spec, adopt: bool, lock: &Lock) -> Result<State, MachineError> {
        let folder = &self.settings.folder;
        let home = self.home(name);
        let mut state = match State::load(folder, name)? {
            Some(state) if state.made == Made::Whole => {
                let what = format!("there is a machine `{name}` already");
                return Err(MachineError::refused(what, format!("start it with `charly vm start {name}`")));
            }
            Some(state) if state.disk_path.exists() && state.desired.source != spec.source => {
                let what = format!("the disk of `{name}` was made from another source");
                return Err(MachineError::refused(what, format!("`charly vm destroy {name} --disk` deletes it")));
            }
            Some(mut state) => {
                state.desired = spec.clone();
                state.ssh_user.clone_from(&spec.ssh.user);
                state.ssh_port = spec.ssh.port.unwrap_or(state.ssh_port);
                state.charly_install_strategy = spec.charly_install;
                state
            }
            None if home.join(DISK).exists() && !adopt => {
                let what = format!("an earlier machine `{name}` left its disk, `{}`", home.join(DISK).display());
                let hint =
                    format!("`charly vm create {name} --adopt` takes it, `charly vm destroy {name} --disk` deletes it");
                return Err(MachineError::refused(what, hint));
            }
            None => {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o700);
                builder.create(&home).map_err(MachineError::file("made", &home))?;
                let port = match spec.ssh.port {
                    Some(port) => port,
                    None => port::free(&self.ports()?)?,
                };
                State::new(folder, name.clone(), spec.clone(), port)
            }
        };
        state.key_injection_resolved = Some(self.key(&state)?);
        KeyPair::at(&home.join(HOST_KEY), &state.name.domain())?;
        state.save(folder, lock)?;
        Ok(state)
    }

    pub(super) fn key(&self, state: &State) -> Result<KeyInjection, MachineError> {
        let ssh = &state.desired.ssh;
        let (identity, public) = match &ssh.key {
            KeySource::None => (None, None),
            KeySource::Generate => {
                let path = self.home(&state.name).join(KEY);
                let pair = KeyPair::at(&path, &state.name.domain())?;
                (Some(path), Some(pair.public))
            }
            KeySource::Path(path) => {
                let path =
                    path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |below| self.settings.home.join(below));
                let public = identity::public_of(&path)?;
                (Some(path), Some(public))
            }
        };
        Ok(KeyInjection { identity, public, smbios: ssh.smbios, cloud_init: ssh.cloud_init })
    }

    /// Makes the disk, unless it is there.
    pub(super) fn built(
        &self,
        mut state: State,
        fetcher: &mut Fetcher,
        tell: Tell<'_>,
        lock: &Lock,
    ) -> Result<State, MachineError> {
        let home = self.home(&state.name);
        if state.disk_path.exists() {
            // It may have been made when a smaller one was asked for. What lies elsewhere is its owner's, and what an earlier
            // machine left is taken as it is.
            if let Some(wanted) = state.desired.disk_size.filter(|_| state.disk_path.starts_with(&home)) {
                let is = disk::info(&state.disk_path, DiskFormat::Qcow2)?.virtual_size;
                if wanted > is {
                    disk::grow(&state.disk_path, wanted)?;
                } else if state.born.is_some() {
                    disk::at_least(is, Some(wanted))?;
                }
            }
        } else {
            let base = self.base(&state.desired.source, fetcher, tell)?;
            if let Some(Base { path, .. }) = &base {
                state.base = Some(path.clone());
                // Before the disk, so that one found after a kill is never without what it lies over.
                state.save(&self.settings.folder, lock)?;
            }
            tell(Step::Disk);
            self.make_disk(&mut state, base.as_ref())?;
        }
        for further in &state.desired.disks {
            disk::empty(&home.join(further.file()), further.size)?;
        }
        state.born.get_or_insert_with(now);
        state.made = Made::Built;
        state.save(&self.settings.folder, lock)?;
        Ok(state)
    }

    /// Returns what a disk from a source lies over, where it lies over something that is not another machine's.
    pub(super) fn base(
        &self,
        source: &Source,
        fetcher: &mut Fetcher,
        tell: Tell<'_>,
    ) -> Result<Option<Base>, MachineError> {
        let Settings { bases, work, .. } = &self.settings;
        Ok(match source {
            Source::CloudImage { url, checksum } => {
                tell(Step::Fetching(url.clone()));
                Some(base::fetched(bases, url, checksum.as_ref(), fetcher)?)
            }
            Source::Bootstrap(recipe) => {
                tell(Step::Bootstrapping(format!("{} {}", recipe.distro, recipe.suite)));
                Some(bootstrap::made(bases, work, recipe)?)
            }
            Source::Clone { .. } | Source::Imported { .. } => None,
        })
    }

    /// Makes a disk where the state says that it is to lie, over a base where its source has one.
    pub(super) fn make_disk(&self, state: &mut State, base: Option<&Base>) -> Result<(), MachineError> {
        let size = state.desired.disk_size;
        if let Some(Base { path, format }) = base {
            return disk::overlay(&state.disk_path, path, *format, size);
        }
        match state.desired.source.clone() {
            Source::CloudImage { .. } | Source::Bootstrap(_) => Ok(()),
            Source::Clone { from, snapshot } => self.cloned(state, &from, snapshot.as_deref()),
            Source::Imported { path, format, in_place, sha256 } => {
                let path = PathBuf::from(path);
                if let Some(wanted) = sha256 {
                    let (is, _) =
                        File::open(&path).and_then(Digest::of_reader).map_err(MachineError::file("read", &path))?;
                    if is != wanted {
                        let what = format!("`{}` adds up to {is}, and {wanted} was asked for", path.display());
                        return Err(MachineError::invalid(what, "get the disk anew, or mend its `sha256`"));
                    }
                }
                let format = format.map_or_else(|| disk::format(&path), Ok)?;
                if !in_place {
                    disk::alone(&path, format)?;
                    return disk::copy(&state.disk_path, &path, format, None, size);
                }
                if size.is_some() {
                    let hint = "make it larger yourself, with `qemu-img resize`, or take a copy, without `--in-place`";
                    return Err(MachineError::invalid("a disk that is used where it lies keeps its size", hint));
                }
                if format != DiskFormat::Qcow2 {
                    let hint = "leave it where it is and take a copy, without `--in-place`";
                    return Err(MachineError::invalid("only a qcow2 disk is taken where it lies", hint));
                }
                state.disk_path = path;
                Ok(())
            }
        }
    }

    fn cloned(&self, state: &mut State, from: &Name, snapshot: Option<&str>) -> Result<(), MachineError> {
        let _lock = Lock::take(&self.settings.folder, from)?;
        let original = self.whole(from)?;
        self.needs_rest(&original, "copied")?;
        if let Some(snapshot) = snapshot {
            known_snapshot(&original, snapshot)?;
        }
        let (theirs, ours) = (self.home(from), self.home(&state.name));
        for further in state.desired.disks.iter().map(Disk::file).filter(|file| theirs.join(file).exists()) {
            disk::copy(&ours.join(&further), &theirs.join(&further), DiskFormat::Qcow2, None, None)?;
        }
        state.base.clone_from(&original.base);
        disk::copy(&state.disk_path, &original.disk_path, DiskFormat::Qcow2, snapshot, state.desired.disk_size)
    }

    pub(super) fn rendered(&self, state: &State) -> Result<Rendered, MachineError> {
        let host_key = KeyPair::at(&self.home(&state.name).join(HOST_KEY), &state.name.domain())?;
        // A copy's own machine-id is the original's until its first boot makes it another.
        let copied = matches!(state.desired.source, Source::Clone { .. });
        Ok(Rendered::new(state, &host_key, copied))
    }

    /// Writes the seed, and what is known of the machine's host key.
    pub(super) fn seeded(&self, state: &mut State) -> Result<(), MachineError> {
        let rendered = self.rendered(state)?;
        let path = self.home(&state.name).join("seed.img");
        seed::write(&path, &rendered)?;
        state.seed_iso = Some(path);
        state.cloud_init_rendered_digest = Some(rendered.digest());
        self.know_host(state)
    }

    pub(super) fn know_host(&self, state: &State) -> Result<(), MachineError> {
        let home = self.home(&state.name);
        let public = KeyPair::at(&home.join(HOST_KEY), &state.name.domain())?.public;
        let part = home.join("known_hosts.part");
        let path = home.join("known_hosts");
        let key: Vec<_> = public.split(' ').take(2).collect();
        identity::write_private(&part, format!("[127.0.0.1]:{} {}\n", state.ssh_port, key.join(" ")).as_bytes())?;
        fs::rename(&part, &path).map_err(MachineError::file("written", &path))
    }
}
