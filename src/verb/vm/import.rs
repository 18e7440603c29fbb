//! `vm import`

use std::path::PathBuf;

use charly_target_vm::machine::Spec;
use charly_target_vm::machine::spec::Source;

use super::source::Shape;
use super::{deployed, done, machines, name, tell};
use crate::context::Context;
use crate::deploy::Downloads;
use crate::exit::{Failure, Outcome};

/// Make a machine from a disk that is there already, qcow2 or raw
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// The disk
    #[arg(value_hint = clap::ValueHint::FilePath)]
    disk: PathBuf,
    /// Use the disk where it lies, instead of a copy; it must be qcow2
    #[arg(long)]
    in_place: bool,
    /// The user to log in as
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Outcome {
    let name = name(&args.name)?;
    let Some(path) = cx.working.join(&args.disk).canonicalize().ok().and_then(|path| path.to_str().map(str::to_owned))
    else {
        return Err(Failure::invalid(format!("there is no disk `{}`", args.disk.display()))
            .hint("name the path of a qcow2 or raw image"));
    };
    let mut spec = Spec::new(Source::Imported { path, format: None, in_place: args.in_place, sha256: None });
    if let Some(user) = &args.user {
        if !charly_target_vm::machine::spec::word(user) {
            return Err(Failure::invalid(format!("`{user}` is no user")));
        }
        spec.ssh.user.clone_from(user);
    }
    args.shape.apply(&mut spec);
    machines(cx).create(&name, &spec, false, &mut Downloads::new(cx).fetcher(), &mut tell(cx.printer))?;
    deployed::declared_here(cx, &name)?;
    cx.printer.say(format_args!("start it with `charly vm start {name}`"));
    done(cx)
}
