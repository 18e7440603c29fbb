//! A machine made anew under the same name, with the same keys and at the same port.

use std::fs;

use charly_target_core::fetch::Fetcher;
use uuid::Uuid;

use super::life::{Machines, Step, Tell, UEFI, backend, now, remove};
use super::spec::Spec;
use super::state::Lock;
use super::{MachineError, Name, State, disk};

/// What the new disk is called until it is whole.
const NEXT: &str = "next.qcow2";

impl Machines {
    /// Makes a machine's disk anew, from what is declared now, and throws the old one away with its snapshots. The machine has no
    /// power afterwards. Further disks stay as they are.
    ///
    /// The old disk goes when the new one is whole: what ends it before leaves everything as it was.
    pub fn rebuild(
        &self,
        name: &Name,
        spec: &Spec,
        fetcher: &mut Fetcher,
        tell: Tell<'_>,
    ) -> Result<State, MachineError> {
        let lock = Lock::take(&self.settings.folder, name)?;
        let old = self.whole(name)?;
        let home = self.home(name);
        if !old.disk_path.starts_with(&home) {
            let what = format!("the disk of `{name}` is its owner's, `{}`", old.disk_path.display());
            let hint = "what was imported with `--in-place` is never thrown away";
            return Err(MachineError::refused(what, hint));
        }
        let mut new = old.clone();
        new.desired = spec.clone();
        new.ssh_user.clone_from(&spec.ssh.user);
        new.ssh_port = spec.ssh.port.unwrap_or(old.ssh_port);
        new.charly_install_strategy = spec.charly_install;
        new.key_injection_resolved = Some(self.key(&new)?);
        let base = self.base(&spec.source, fetcher, tell)?;
        new.base = base.as_ref().map(|base| base.path.clone());
        tell(Step::Disk);
        new.disk_path = home.join(NEXT);
        remove(&new.disk_path)?;
        self.make_disk(&mut new, base.as_ref())?;
        for further in &new.desired.disks {
            disk::empty(&home.join(further.file()), further.size)?;
        }
        if old.desired.disks.is_empty() {
            backend(old.backend).cut(&home, &old)?;
        } else {
            self.laid_to_rest(&old)?;
        }
        remove(&home.join(UEFI))?;
        fs::rename(&new.disk_path, &old.disk_path).map_err(MachineError::file("written", &old.disk_path))?;
        new.disk_path = old.disk_path;
        (new.instance_id, new.reseeded, new.born) = (Uuid::new_v4(), 0, Some(now()));
        new.observed = None;
        new.snapshots.clear();
        new.deployed.deploys.values_mut().for_each(|held| held.failed = false);
        self.seeded(&mut new)?;
        self.autostarted(&new)?;
        new.save(&self.settings.folder, &lock)?;
        self.follow_in_ssh_config()?;
        Ok(new)
    }
}
