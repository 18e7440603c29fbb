//! Small disks that firmware and first boots read: FAT.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, format_volume};

/// The least size: smaller ones leave FAT too few clusters.
const LEAST: u64 = 1 << 20;

/// Writes an image with these files, folders and all, that nobody else may read.
pub(super) fn image(path: &Path, label: [u8; 11], files: &[(&str, &[u8])]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let content: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    file.set_len((LEAST + content * 2).next_multiple_of(LEAST))?;
    format_volume(&file, FormatVolumeOptions::new().volume_label(label))?;
    let volume = FileSystem::new(&file, FsOptions::new())?;
    for (name, bytes) in files {
        for (at, _) in name.match_indices('/') {
            volume.root_dir().create_dir(&name[..at])?;
        }
        let mut entry = volume.root_dir().create_file(name)?;
        entry.truncate()?;
        entry.write_all(bytes)?;
        entry.flush()?;
    }
    volume.unmount()?;
    Ok(file)
}
