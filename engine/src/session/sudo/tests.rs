use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A program that grants root as `sudo` does, in one of its moods, and a folder for what root keeps.
struct Stage {
    temp: tempfile::TempDir,
    sudo: Sudo,
}

/// What comes before what `sudo` does in every mood: it writes down how it was called.
const PRELUDE: &str = r#"#!/bin/sh
here=${0%/*}
printf '%s\n' "$@" >"$here/arguments"
env >"$here/environment"
prompt=
while [ "$1" != -- ]; do
  [ "$1" = -p ] && prompt=$2
  shift
done
shift
ask() {
  printf '%s' "$prompt" >&2
  IFS= read -r answer || exit 1
}
"#;

const GRANTS: &str = "exec \"$@\"";
const ASKS: &str = r#"ask
while [ "$answer" != right ]; do echo 'Sorry, try again.' >&2; ask; done
exec "$@""#;
const ASKS_ONCE: &str = r#"ask
[ "$answer" = right ] && exec "$@"
echo 'sudo: 1 incorrect password attempt' >&2; exit 1"#;
const WANTS: &str = "echo 'sudo: a password is required' >&2; exit 1";
const KNOWS_NOBODY: &str = "ask; echo 'ann is not in the sudoers file.' >&2; exit 1";
const ASKS_FOR_A_CODE: &str = "printf 'Verification code: ' >&2; read -r answer";

/// An engine that says its first word and then what it is told.
const ENGINE: &str = "#!/bin/sh\nprintf '\\000charly-engine1\\n'\ncat\n";

fn stage(mood: &str) -> Stage {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("sudo");
    // Written by another process: a file that this one has open for writing could not be started while others fork.
    place(&program, &format!("{PRELUDE}{mood}\n"));
    let kept = temp.path().join("cache/charly");
    let script = include_str!("../as-root.sh").replace("/var/cache/charly", kept.to_str().unwrap());
    place(&temp.path().join("engine"), ENGINE);
    Stage { sudo: Sudo { program, script, patience: Duration::from_secs(10) }, temp }
}

fn place(path: &Path, text: &str) {
    let mut command = Command::new("/bin/sh");
    let mut shell =
        command.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

impl Stage {
    fn start(&self, password: Option<&str>) -> Result<Started, WorkError> {
        self.start_as(Digest::of(&fs::read(self.temp.path().join("engine")).unwrap()), password)
    }

    fn start_as(&self, digest: Digest, password: Option<&str>) -> Result<Started, WorkError> {
        let password = password.map(SecretValue::new);
        self.sudo.start_program(&self.temp.path().join("engine"), digest, password.as_ref(), &Cancel::default())
    }

    fn why(&self, password: Option<&str>) -> (String, String) {
        let Err(WorkError::Denied(problem)) = self.start(password) else { panic!("it was granted") };
        assert_eq!(problem.what, "cannot become root on the venue");
        (problem.because.join(" "), problem.hint.unwrap())
    }

    fn kept(&self, digest: Digest) -> PathBuf {
        self.temp.path().join("cache/charly/engine").join(digest.to_string()).join("charly-guest")
    }
}

/// Returns all that an engine was told.
fn told(started: Started) -> String {
    let Started { mut child, mut stdin, mut stdout } = started;
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn a_password_reaches_sudo_alone() {
    for (mood, password) in [(GRANTS, None), (GRANTS, Some("right")), (ASKS, Some("right")), (ASKS_ONCE, Some("right"))]
    {
        let stage = stage(mood);
        assert_eq!(told(stage.start(password).unwrap()), "hello", "{mood}");
        for file in ["arguments", "environment"] {
            let text = fs::read_to_string(stage.temp.path().join(file)).unwrap();
            assert!(!text.lines().any(|line| line.contains("right")), "{mood}: {text}");
        }
    }
}

#[test]
fn a_denial_says_why() {
    let (wrong, again) = ("`sudo` did not take the password", AGAIN);
    let ask = "`--ask-sudo` asks you for it; or let sudo trust this user without one, or deploy as root";
    for (mood, password, why, hint) in [
        (ASKS, Some("wrong"), wrong, again),
        (ASKS_ONCE, Some("wrong"), wrong, again),
        (WANTS, None, "`sudo` wants a password there", ask),
        (KNOWS_NOBODY, Some("right"), "sudo: ann is not in the sudoers file.", ALLOW),
        ("exit 3", None, "sudo: it ended without a word", ALLOW),
        ("echo Welcome", None, "sudo: it ended without a word", ALLOW),
    ] {
        assert_eq!(stage(mood).why(password), (why.to_owned(), hint.to_owned()), "{mood}");
    }
    let mut without = stage(GRANTS);
    without.sudo.program = without.temp.path().join("no-such-program");
    assert_eq!(without.why(None).0, "it has no `sudo`");
    let mut code = stage(ASKS_FOR_A_CODE);
    code.sudo.patience = Duration::from_millis(300);
    assert_eq!(code.why(Some("right")).0, "sudo: Verification code:");
}

#[test]
fn a_cancel_ends_the_asking() {
    let stage = stage(ASKS_FOR_A_CODE);
    let cancel = Cancel::default();
    cancel.escalate();
    let result = stage.sudo.start_program(&stage.temp.path().join("engine"), Digest::of(b""), None, &cancel);
    assert!(matches!(result, Err(WorkError::Cancelled)));
}

#[test]
fn root_runs_a_copy_of_its_own() {
    let stage = stage(GRANTS);
    let digest = Digest::of(ENGINE.as_bytes());
    let kept = stage.kept(digest);
    told(stage.start(None).unwrap());
    assert_eq!(fs::read_to_string(&kept).unwrap(), ENGINE);
    for path in kept.ancestors().take(4) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o755, "{}", path.display());
    }
    // What the user's file becomes later is neither kept nor run.
    place(&stage.temp.path().join("engine"), "#!/bin/sh\necho evil\n");
    let denied = |digest| match stage.start_as(digest, None) {
        Err(WorkError::Denied(problem)) => problem.because,
        other => panic!("{other:?}"),
    };
    assert_eq!(denied(digest), ["sudo: the engine changed while it was copied"]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), ENGINE);
    fs::remove_file(&kept).unwrap();
    assert_eq!(denied(digest), ["sudo: the engine changed while it was copied"]);
    assert_eq!(fs::read_dir(kept.parent().unwrap()).unwrap().count(), 0);
    // What a power failure left of a copy is no engine, and a link is not believed.
    place(&stage.temp.path().join("engine"), ENGINE);
    fs::write(&kept, "").unwrap();
    assert_eq!(told(stage.start(None).unwrap()), "hello");
    assert_eq!(fs::read_to_string(&kept).unwrap(), ENGINE);
    fs::remove_file(&kept).unwrap();
    symlink("/bin/false", &kept).unwrap();
    // Copies of engines that nobody has used for a month go.
    let others = ["recent", "old"].map(|name| stage.temp.path().join("cache/charly/engine").join(name));
    for other in &others {
        fs::create_dir(other).unwrap();
    }
    let month_ago = std::time::SystemTime::now() - Duration::from_hours(32 * 24);
    fs::File::open(&others[1]).unwrap().set_modified(month_ago).unwrap();
    assert_eq!(told(stage.start(None).unwrap()), "hello");
    assert!(kept.symlink_metadata().unwrap().is_file());
    assert_eq!(others.map(|other| other.exists()), [true, false]);
}

#[test]
fn a_folder_that_is_a_link_is_not_roots_own() {
    let stage = stage(GRANTS);
    let elsewhere = stage.temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(stage.temp.path().join("cache")).unwrap();
    let kept = stage.temp.path().join("cache/charly");
    symlink(&elsewhere, &kept).unwrap();
    assert_eq!(stage.why(None).0, format!("sudo: {} is not root's own", kept.display()));
}
