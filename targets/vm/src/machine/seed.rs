//! A seed: the small disk that tells a first boot what to do.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{MachineError, Rendered, fat};

/// What cloud-init looks for; it takes capitals too, and FAT knows no others.
const LABEL: &[u8; 11] = b"CIDATA     ";

/// Writes a seed, in place of one that may be there, whole or not at all.
pub fn write(path: &Path, rendered: &Rendered) -> Result<(), MachineError> {
    let part = path.with_extension("part");
    image(&part, rendered)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&part, path))
        .map_err(MachineError::file("written", path))
}

fn image(path: &Path, rendered: &Rendered) -> io::Result<File> {
    fat::image(path, *LABEL, &rendered.files().map(|(name, text)| (name, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fatfs::{FileSystem, FsOptions};
    use std::io::Read as _;

    #[test]
    fn a_seed_holds_its_documents_under_its_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.img");
        for size in [1, 3 << 20] {
            let rendered = Rendered {
                meta_data: "{}\n".into(),
                user_data: format!("#cloud-config\n{}", "x".repeat(size)),
                network_config: "{\"version\": 2}\n".into(),
            };
            write(&path, &rendered).unwrap();
            let volume = FileSystem::new(File::open(&path).map(ReadOnly).unwrap(), FsOptions::new()).unwrap();
            assert_eq!(volume.volume_label_as_bytes(), b"CIDATA");
            assert_eq!(volume.read_volume_label_from_root_dir_as_bytes().unwrap().as_ref(), Some(LABEL));
            for (name, want) in rendered.files() {
                let mut text = String::new();
                volume.root_dir().open_file(name).unwrap().read_to_string(&mut text).unwrap();
                assert!(text == want, "{name}");
            }
        }
        assert!(!path.with_extension("part").exists());
    }

    /// The crate asks to write even where it only reads.
    struct ReadOnly(File);

    impl io::Read for ReadOnly {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl io::Write for ReadOnly {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl io::Seek for ReadOnly {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
}
