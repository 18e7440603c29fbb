//! What the scripts ask of tools that are not at hand where tests run: recorded, and answered by stand-ins.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use charly_ir::Text;
use charly_ir::plan::Builder;

use super::*;

/// Runs a builder's script with stand-ins for its tools; returns what was asked of them, and its folder.
fn recorded(
    kind: BuilderKind,
    inputs: &[(&str, &str)],
    packages: &str,
    tools: &[(&str, &str)],
) -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for path in ["bin", "source", "cache", "work"] {
        fs::create_dir(at(path)).unwrap();
    }
    for (name, text) in inputs {
        fs::write(at("source").join(name), text).unwrap();
    }
    for (name, body) in tools {
        let path = at("bin").join(name);
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\n{body}\n", at("log").display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let to = if kind == BuilderKind::Pixi { at("home/.pixi/envs/default") } else { at("out") };
    let output = Command::new("/bin/sh")
        .args(["-c", script(kind), "charly"])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", at("bin").display()))
        .env("CHARLY_TO", to)
        .env("CHARLY_SOURCE", at("source"))
        .env("CHARLY_CACHE", at("cache"))
        .env("CHARLY_WORK", at("work"))
        .env("CHARLY_CANDY", "c")
        .env("CHARLY_PACKAGES", packages)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(at("log")).unwrap_or_default();
    (log.replace(folder.path().to_str().unwrap(), "X"), folder)
}

#[test]
fn pixi_takes_what_is_locked() {
    let tools = [("pixi", "mkdir -p .pixi/envs/default/bin && touch .pixi/envs/default/bin/tool")];
    for (inputs, want) in [
        (&[("pixi.toml", ""), ("pixi.lock", "")][..], "pixi install --frozen\n"),
        (&[("pyproject.toml", "")], "pixi install\n"),
        (&[("environment.yml", "")], "pixi init --import environment.yml .\npixi install\n"),
    ] {
        let (log, folder) = recorded(BuilderKind::Pixi, inputs, "", &tools);
        assert_eq!(log, want);
        assert!(folder.path().join("home/.pixi/envs/default/bin/tool").exists());
    }
}

#[test]
fn pixi_is_fetched_once() {
    let curl = "for last; do :; done\nd=$(mktemp -d)\nprintf '#!/bin/sh\\n' >$d/pixi\nchmod +x $d/pixi\n\
                tar -czf \"$6\" -C $d pixi";
    let (log, folder) = recorded(BuilderKind::Pixi, &[("pixi.toml", "")], "", &[("curl", curl)]);
    assert!(
        log.starts_with("curl --fail --silent --show-error --location --output X/work/pixi.tar.gz https://"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(folder.path().join("cache/tool/pixi").exists());
}

#[test]
fn of_the_aur_is_built_what_the_distribution_has_not() {
    let makepkg = r#"
        name=$(basename "$PWD")
        case $1 in
        --printsrcinfo) [ "$name" != tool ] || printf '\tdepends = glibc>=2\n\tmakedepends = go\n\tdepends = helper\n' ;;
        --packagelist) echo "$PKGDEST/$name-1-1-any.pkg.tar.zst" ;;
        *) touch "$PKGDEST/$name-1-1-any.pkg.tar.zst" "$PKGDEST/$name-debug-1-1-any.pkg.tar.zst" ;;
        esac"#;
    let tools = [
        ("id", "exit 1"),
        ("useradd", ""),
        ("chown", ""),
        ("runuser", "shift 3\nexec \"$@\""),
        ("pacman", "case \"$1 $2\" in '-T glibc' | '-Sp go') exit 0 ;; -T* | -Sp*) exit 1 ;; esac"),
        ("git", "for last; do :; done\nmkdir \"$last\""),
        ("makepkg", makepkg),
    ];
    let (log, folder) = recorded(BuilderKind::Aur, &[], "tool", &tools);
    let asked: Vec<_> = log.lines().filter(|line| !line.starts_with("runuser")).collect();
    let want = [
        "id charly-build",
        "useradd --no-create-home --home-dir X/work/aur charly-build",
        "chown charly-build X/work/aur",
        "pacman -Sy --noconfirm --noprogressbar",
        "git clone --quiet --depth 1 https://aur.archlinux.org/tool.git X/work/aur/tool",
        "makepkg --printsrcinfo",
        "pacman -T glibc",
        "pacman -T go",
        "pacman -Sp go",
        "pacman -S --needed --asdeps --noconfirm --noprogressbar go",
        "pacman -T helper",
        "pacman -Sp helper",
        "git clone --quiet --depth 1 https://aur.archlinux.org/helper.git X/work/aur/helper",
        "makepkg --printsrcinfo",
        "makepkg --noconfirm --nocheck --noprogressbar",
        "makepkg --packagelist",
        "pacman -U --noconfirm --noprogressbar --needed --asdeps X/work/aur/made/helper-1-1-any.pkg.tar.zst",
        "makepkg --noconfirm --nocheck --noprogressbar",
        "makepkg --packagelist",
        "pacman -U --noconfirm --noprogressbar --needed --asdeps X/work/aur/made/tool-1-1-any.pkg.tar.zst",
    ];
    assert_eq!(asked, want);
    let mut made: Vec<_> =
        fs::read_dir(folder.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    made.sort();
    assert_eq!(made, ["helper-1-1-any.pkg.tar.zst", "tool-1-1-any.pkg.tar.zst"]);
}

#[test]
fn paths_and_names_are_judged() {
    for (to, want) in [
        ("/home/ann/.cargo", Some(("/home/ann", ".cargo"))),
        ("/.cargo", None),
        ("relative/x", None),
        ("/home/../x", None),
        ("/home//x", None),
        ("", None),
    ] {
        assert_eq!(split(to).ok(), want, "{to}");
    }
    for (name, want) in [("yay-bin", true), ("a+b.c", true), ("-U", false), ("", false), ("a b", false), ("a;b", false)]
    {
        assert_eq!(is_package(name), want, "{name}");
    }
}

#[test]
fn inputs_are_staged_as_they_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let (script, text) = (Digest::of(b"#!/bin/sh\n"), Digest::of(b"x"));
    let memory = |bytes: &[u8]| Content::Memory(bytes.to_vec().into());
    let contents = [(script, memory(b"#!/bin/sh\n")), (text, memory(b"x"))].into();
    let staged = |name: &str, digest, to: &Path| {
        let inputs = [(name.to_owned(), digest)].into();
        let builder =
            Builder { kind: BuilderKind::Npm, inputs, packages: Vec::new(), to: Text::default(), image: None };
        let wanted = Wanted { candy: "c", builder: &builder, to: "/a/b", os: "o", arch: "a", inputs: &contents };
        stage(&wanted, to).map_err(|error| error.to_string())
    };
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    staged("deep/run.sh", script, folder.path()).unwrap();
    staged("text", text, folder.path()).unwrap();
    assert_eq!((mode("deep/run.sh"), mode("text")), (0o755, 0o644));
    let refused = "`../x` was changed while it was read, or cannot be read";
    assert_eq!(staged("../x", text, folder.path()).unwrap_err(), refused);
    let other = Digest::of(b"other");
    assert!(staged("text", other, folder.path()).is_err());
}
