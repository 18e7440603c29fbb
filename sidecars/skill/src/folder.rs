//! The skills folder: names to programs, by handle.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use crate::name::SkillName;

/// Names no skill can have: they would be this server, under whatever file name it was installed.
const OWN_NAMES: [&str; 2] = ["charly-skill", "charly"];

/// How often a resolution that raced with a rename is tried again.
const RESOLVE_ATTEMPTS: usize = 8;

/// Holds the folder that skills are resolved in.
#[derive(Debug)]
pub struct SkillFolder {
    handle: OwnedFd,
    /// Device and inode of the server's own program.
    own: Option<(u64, u64)>,
}

/// Holds a program that was found and can only be executed, whatever becomes of its name meanwhile.
#[derive(Debug)]
pub struct Program {
    handle: OwnedFd,
}

impl Program {
    /// Returns the handle; it can be executed and looked at, and nothing else.
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Says why a name leads to no program.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is nothing of this name.
    #[error("no skill named `{0}`")]
    Missing(SkillName),
    /// There is something that may not be run.
    #[error("`{0}` is no skill: {1}")]
    Unfit(SkillName, &'static str),
    /// The system did not say what there is.
    #[error("cannot look for the skill `{0}`")]
    Lookup(SkillName, #[source] io::Error),
}

impl SkillFolder {
    /// Opens the folder at `path`; later renames of it do not matter.
    pub fn open(path: &Path) -> io::Result<Self> {
        let handle = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let own = rustix::fs::stat("/proc/self/exe").ok().map(|stat| identity_of(&stat));
        Ok(Self { handle, own })
    }

    /// Finds the program called `name`.
    pub fn resolve(&self, name: &SkillName) -> Result<Program, ResolveError> {
        let handle = open_beneath(self.handle.as_fd(), name.as_str()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => ResolveError::Missing(name.clone()),
            Errno::XDEV | Errno::LOOP => {
                ResolveError::Unfit(name.clone(), "it is a link that leads out of the skills folder")
            }
            other => ResolveError::Lookup(name.clone(), other.into()),
        })?;
        let stat = rustix::fs::fstat(&handle).map_err(|error| ResolveError::Lookup(name.clone(), error.into()))?;
        let unfit = |why| Err(ResolveError::Unfit(name.clone(), why));
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return unfit("it is not a regular file");
        }
        if stat.st_mode & 0o111 == 0 {
            return unfit("it is not executable");
        }
        if OWN_NAMES.contains(&name.as_str()) || self.own == Some(identity_of(&stat)) {
            return unfit("it is this server");
        }
        Ok(Program { handle })
    }

    /// Lists what the folder holds that is a skill, sorted.
    pub fn names(&self) -> io::Result<Vec<SkillName>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().and_then(|text| SkillName::parse(text).ok()) else {
                continue;
            };
            if self.resolve(&name).is_ok() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

fn open_beneath(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RESOLVE_ATTEMPTS {
        match rustix::fs::openat2(folder, name, flags, Mode::empty(), beneath) {
            // The kernel could not prove that a concurrent rename did not lead outside.
            Err(Errno::AGAIN) => {}
            // Some sandboxes know no openat2; there no links are followed at all.
            Err(Errno::NOSYS | Errno::PERM) => {
                return rustix::fs::openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty());
            }
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

#[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ between architectures")]
fn identity_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// Opens an existing folder as a place to work in.
pub(crate) fn open_place(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn program(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_executable_files_inside_the_folder_are_skills() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("skills");
        fs::create_dir_all(folder.join("sub")).unwrap();
        program(&root.path().join("outside"), 0o755);
        program(&folder.join("good"), 0o755);
        program(&folder.join("plain"), 0o644);
        program(&folder.join("charly-skill"), 0o755);
        program(&folder.join("sub/deep"), 0o755);
        program(&folder.join(".hidden"), 0o755);
        for (link, target) in [
            ("inside", "good"),
            ("deep", "sub/deep"),
            ("back", "sub/../good"),
            ("up", "../outside"),
            ("absolute", "/bin/sh"),
            ("magic", "/proc/self/exe"),
            ("loop", "loop"),
            ("dangling", "nothing"),
        ] {
            std::os::unix::fs::symlink(target, folder.join(link)).unwrap();
        }
        // It fails where the build lies on another file system, or belongs to another user; the tests of the program
        // itself look at this too.
        let _ = fs::hard_link(std::env::current_exe().unwrap(), folder.join("myself"));
        rustix::fs::mknodat(CWD, folder.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o755), 0).unwrap();

        let skills = SkillFolder::open(&folder).unwrap();
        let found: Vec<String> = skills.names().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["back", "deep", "good", "inside"]);

        let refusal = |name: &str| skills.resolve(&SkillName::parse(name).unwrap()).unwrap_err().to_string();
        assert_eq!(refusal("absent"), "no skill named `absent`");
        assert_eq!(refusal("dangling"), "no skill named `dangling`");
        assert_eq!(refusal("up"), "`up` is no skill: it is a link that leads out of the skills folder");
        assert_eq!(refusal("absolute"), "`absolute` is no skill: it is a link that leads out of the skills folder");
        assert_eq!(refusal("plain"), "`plain` is no skill: it is not executable");
        assert_eq!(refusal("sub"), "`sub` is no skill: it is not a regular file");
        assert_eq!(refusal("pipe"), "`pipe` is no skill: it is not a regular file");
        assert_eq!(refusal("charly-skill"), "`charly-skill` is no skill: it is this server");
    }

    #[test]
    fn a_program_stays_the_one_that_was_found() {
        let folder = tempfile::tempdir().unwrap();
        program(&folder.path().join("tool"), 0o755);
        let skills = SkillFolder::open(folder.path()).unwrap();
        let found = skills.resolve(&SkillName::parse("tool").unwrap()).unwrap();
        let before = rustix::fs::fstat(found.handle()).unwrap().st_ino;
        program(&folder.path().join("other"), 0o755);
        fs::rename(folder.path().join("other"), folder.path().join("tool")).unwrap();
        assert_eq!(rustix::fs::fstat(found.handle()).unwrap().st_ino, before);
    }
}
