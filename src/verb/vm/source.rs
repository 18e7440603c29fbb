//! What a machine is to be: what the project declares, and what the command line says beside it.

use charly_plans::diagnostic::Diagnostic;
use charly_plans::load::Workspace;
use charly_plans::source::Place;
use charly_target_core::distribution::releases;
use charly_target_vm::machine::spec::{ByHand, Checksum, ChecksumKind, Forward, Source, forward};
use charly_target_vm::machine::{BadName, Name, Reading, Spec, release, size};

use crate::context::Context;
use crate::exit::Failure;

/// What a machine is to be.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Where its disk comes from: a distribution such as `debian-13`, or a cloud image's URL or path; what the project
    /// declares below `vm:` where nothing is said
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,
    /// What the image's bytes must add up to: 64 or 128 hexadecimal digits, or the URL of a file that lists them
    #[arg(long, value_name = "DIGITS", requires = "from")]
    checksum: Option<String>,
    /// Take an image that no checksum is given for
    #[arg(long)]
    allow_unverified: bool,
    #[command(flatten)]
    shape: Shape,
}

/// How large a machine is to be, and how it is reached.
#[derive(Debug, clap::Args)]
pub(super) struct Shape {
    /// The size of its disk, such as `20G`
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    disk_size: Option<u64>,
    /// Its memory, such as `4G`
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    ram: Option<u64>,
    /// Its processors
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=255))]
    cpu: Option<u32>,
    /// The port of this machine that leads to its sshd; a free one where nothing is said
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ssh_port: Option<u16>,
    /// A port of this machine's loopback that leads into it
    #[arg(long, value_name = "HOST:GUEST", value_parser = ports)]
    forward: Vec<Forward>,
}

impl Wanted {
    /// Puts it together.
    pub(super) fn spec(&self, cx: &Context, name: &Name) -> Result<Spec, Failure> {
        let mut spec = match &self.from {
            Some(from) => Spec::new(self.source(cx, from)?),
            None => declared(cx, name, Some(self.allow_unverified))?.ok_or_else(|| {
                let known: Vec<_> = releases().map(|release| format!("`{release}`")).collect();
                Failure::invalid(format!("nothing says where the disk of `{name}` comes from"))
                    .hint(format!("name a source with `--from`: {}, or a cloud image's URL or path", known.join(", ")))
            })?,
        };
        self.shape.apply(&mut spec);
        Ok(spec)
    }

    fn source(&self, cx: &Context, from: &str) -> Result<Source, Failure> {
        if let Some(recipe) = release(from) {
            return Ok(Source::Bootstrap(recipe));
        }
        let url = if from.contains("://") {
            from.to_owned()
        } else {
            let path = cx.working.join(from);
            if !path.is_file() {
                let known: Vec<_> = releases().map(|release| format!("`{release}`")).collect();
                return Err(Failure::invalid(format!("`{from}` is neither a distribution nor an image"))
                    .hint(format!("write a URL, the path of an image, or one of {}", known.join(", "))));
            }
            format!("file://{}", path.display())
        };
        let checksum = match &self.checksum {
            Some(digits) => Some(checksum(digits)?),
            None if self.allow_unverified => None,
            None => {
                return Err(Failure::invalid("nothing says what the image's bytes must add up to")
                    .hint("add `--checksum DIGITS`, or `--allow-unverified`"));
            }
        };
        Ok(Source::CloudImage { url, checksum })
    }
}

impl Shape {
    /// Lays what was said over a machine.
    pub(super) fn apply(&self, spec: &mut Spec) {
        let Self { disk_size, ram, cpu, ssh_port, ref forward } = *self;
        spec.give(ByHand { disk_size, memory: ram, cpus: cpu, ssh_port, forwards: forward.clone() });
    }
}

/// Judges every machine that the project declares. Whether the paths that they name are there is seen when one is made.
pub(crate) fn judged(cx: &Context, workspace: &Workspace) -> Vec<Diagnostic> {
    let reading = Reading { home: &cx.home, allow_unverified: true, making: false };
    let judged = workspace.vms().iter().map(|(name, declared)| {
        let misnamed = name.parse::<Name>().err().map(|bad| misnamed(&bad, declared.place.clone()));
        misnamed.into_iter().chain(Spec::resolve(declared, reading).err().into_iter().flatten())
    });
    judged.flatten().collect()
}

/// Reads the name of a machine that may be declared.
pub(super) fn named(cx: &Context, text: &str) -> Result<Name, Failure> {
    text.strip_prefix("vm:").unwrap_or(text).parse().map_err(|bad: BadName| {
        match cx.workspace_with_mistakes().vms().get(text) {
            Some(declared) => misnamed(&bad, declared.place.clone()).into(),
            None => Failure::invalid(bad.to_string()).hint(BadName::HINT),
        }
    })
}

/// Says that a name that is declared somewhere names no machine.
pub(crate) fn misnamed(bad: &BadName, place: Place) -> Diagnostic {
    Diagnostic::error(bad.to_string()).at(place).hint(BadName::HINT)
}

/// Returns what the project declares of a machine, if it does. Where it is made of that, `made_unverified` tells whether an image passes
/// that no checksum is declared for.
pub(crate) fn declared(cx: &Context, name: &Name, made_unverified: Option<bool>) -> Result<Option<Spec>, Failure> {
    let workspace = cx.workspace()?;
    let declared = workspace.vms().get(name.as_str());
    let (making, allow_unverified) = (made_unverified.is_some(), made_unverified.unwrap_or(true));
    let reading = Reading { home: &cx.home, allow_unverified, making };
    Ok(declared.map(|declared| Spec::resolve(declared, reading)).transpose()?)
}

fn checksum(text: &str) -> Result<Checksum, Failure> {
    let value = text.to_owned();
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let kind = match text.len() {
        64 if is_hex => ChecksumKind::Sha256,
        128 if is_hex => ChecksumKind::Sha512,
        _ if text.contains("://") && text.contains("SHA512") => ChecksumKind::Sha512,
        _ if text.contains("://") => ChecksumKind::Sha256,
        _ => {
            return Err(Failure::invalid(format!("`{text}` is no checksum"))
                .hint("write 64 or 128 hexadecimal digits, or the URL of a file that lists them"));
        }
    };
    Ok(Checksum { kind, value: if is_hex { value.to_ascii_lowercase() } else { value } })
}

fn bytes(text: &str) -> Result<u64, String> {
    size::parse(text).ok_or_else(|| "write a number with a unit, such as `20G` or `512M`".to_owned())
}

fn ports(text: &str) -> Result<Forward, String> {
    forward(text).ok_or_else(|| "write `HOST:GUEST`, such as `8080:80`".to_owned())
}
