//! Files that a deploy brings back to this machine.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use charly_ir::message::{Fetch, SecretValue, Verdict};
use charly_ir::plan::{Artifact, InstallPlan};
use charly_target_core::DeployTarget;
use charly_target_core::target::Run;

use crate::context::Context;
use crate::deploy::Place;
use crate::exit::{Exit, Failure, of_verdict};
use crate::output::{Policy, Progress};

/// Brings back every artifact of a plan.
pub(super) fn bring_back(
    cx: &Context,
    place: &Place,
    plan: &InstallPlan,
    sudo_password: Option<&SecretValue>,
) -> Result<(), Failure> {
    for artifact in plan.candies.iter().flat_map(|candy| &candy.artifacts) {
        let to = destination(&cx.home, &artifact.retrieve_to);
        let (path, wait_s) = (artifact.path.clone(), artifact.wait_s);
        let order = Fetch { deploy: place.deploy.clone(), path, wait_s, sudo_password: sudo_password.cloned() };
        fetch(cx, &*place.target, order, artifact, &to)?;
        cx.printer.say(format_args!("brought back {} to {}", artifact.name, to.display()));
    }
    Ok(())
}

fn fetch(cx: &Context, target: &dyn DeployTarget, order: Fetch, artifact: &Artifact, to: &Path) -> Result<(), Failure> {
    let Artifact { name, mode, rewrite, path: _, wait_s: _, retrieve_to: _ } = artifact;
    let failed = |error: anyhow::Error| {
        Failure::error(Exit::Failed, error.context(format!("the artifact `{name}` cannot be stored")))
    };
    let folder = to.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("`{}`", folder.display())).map_err(failed)?;
    // Whole or not at all; and never readable by others before its mode says so.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(error.into()))?;
    let into = file.reopen().map_err(|error| failed(error.into()))?;
    let mut progress = Progress::new(cx.printer, cx.interrupts.clone(), Policy::default());
    let run = Run { observer: &mut progress, interrupts: cx.interrupts.clone() };
    let done = cx.block_on(target.fetch(order, Box::new(into), run))?.done;
    progress.finish()?;
    if done.verdict != Verdict::Ok {
        return of_verdict(&done.verdict).map(|_| ());
    }
    let store = || -> anyhow::Result<()> {
        if !rewrite.is_empty() {
            let text = std::fs::read_to_string(file.path()).context("what is rewritten must be text")?;
            let text = rewrite.iter().fold(text, |text, (find, replace)| text.replace(find, replace));
            file.as_file().set_len(0)?;
            file.write_all(text.as_bytes())?;
        }
        file.as_file().set_permissions(std::fs::Permissions::from_mode(*mode))?;
        file.as_file().sync_all()?;
        file.persist(to).with_context(|| format!("`{}`", to.display()))?;
        Ok(())
    };
    store().map_err(failed)
}

fn destination(home: &Path, retrieve_to: &str) -> PathBuf {
    match retrieve_to.strip_prefix("~/") {
        Some(below) => home.join(below),
        None => PathBuf::from(retrieve_to),
    }
}
