//! Makes the venue hold a plan.

use std::collections::{BTreeMap, BTreeSet};

use charly_ir::Digest;
use charly_ir::boot::BootMark;
use charly_ir::frame::Frame;
use charly_ir::message::{
    Apply, Change, DeployState, Diff, Done, Event, Mode, Need, Outcome, Problem, RebootPolicy, Reply, Request,
    Retrieval, Verdict,
};
use charly_ir::plan::{Action, FORMAT, Gate, InstallPlan};

use super::hand::Looked;
use super::hands::{Hands, Party};
use super::{Session, now_s, untouched};
use crate::ledger::{CandyRecord, DeployId, DeployRecord, StepKey};
use crate::venue::Side;
use crate::worker::{Release, ReleaseOptions, Tally, WorkError, locate, pending_problem};

/// Either what was asked for, or the last word already.
type Or<T> = Result<T, Box<Done>>;

impl Session<'_> {
    pub(super) fn apply(&mut self, apply: &Apply) -> Done {
        self.try_apply(apply).unwrap_or_else(|done| *done)
    }

    fn try_apply(&mut self, apply: &Apply) -> Or<Done> {
        let stop = |error: WorkError| Box::new(untouched(&error));
        judge_plan(apply, &self.settings.facts.os.tag(), &self.settings.facts.arch).map_err(stop)?;
        let deploy = self.deploy_id(&apply.deploy).map_err(stop)?;
        let mut hands = match apply.mode {
            Mode::DryRun => self.reading(),
            Mode::Ask | Mode::Go { .. } => {
                let asks = apply.plan.steps().any(|(_, step)| locate(&step.scope) == Side::System);
                self.writing(&apply.run, &deploy, asks)
            }
        }
        .map_err(stop)?;
        let old = hands.deploy(&deploy).map_err(stop)?;
        let mut looked = hands.look(&deploy, apply).map_err(stop)?;
        looked.settle_reboots();
        judge_steps(apply, &looked)?;
        let stale = stale(&mut hands, &deploy, &apply.plan, old.as_ref()).map_err(stop)?;
        let gates = looked.gates();
        self.show(&mut hands, apply, &looked, &stale, &gates).map_err(stop)?;
        if apply.mode == Mode::DryRun {
            return Ok(Done::verdict(Verdict::Ok));
        }
        self.pass_gates(apply, &gates, &mut hands)?;
        self.supply(&mut hands, &deploy, apply, &mut looked)?;

        let target = record_of(apply, DeployState::Complete);
        let unchanged = u32::try_from(looked.diffs.len() - looked.due.len()).unwrap_or(u32::MAX);
        if looked.due.is_empty() && stale.is_empty() && old.as_ref().is_some_and(|old| is_same(old, &target)) {
            hands.close().map_err(stop)?;
            return Ok(Done { unchanged, ..Done::verdict(Verdict::Ok) });
        }
        let mut tally = Tally::default();
        let result = self.carry_out(&mut hands, &deploy, apply, &mut looked, &stale, old.as_ref(), &mut tally);
        let verdict = match result {
            // What the ledger holds is not known: leave its journal for the next run to read.
            Err(error @ WorkError::Ledger(_)) => return Ok(ended(Verdict::Failed(error.problem()), tally, unchanged)),
            Err(WorkError::Cancelled) => Verdict::Cancelled,
            Err(error) => {
                Verdict::Failed(error.problem().hint_or("mend what is named above; the same command goes on here"))
            }
            Ok(Some(verdict)) => verdict,
            Ok(None) if tally.pending.is_empty() => Verdict::Ok,
            Ok(None) => Verdict::Failed(pending_problem(&apply.deploy, &tally.pending)),
        };
        let closed = match &verdict {
            Verdict::Rebooting { boot } => self.go_down(hands, boot),
            _ => hands.close(),
        };
        Ok(match closed {
            Ok(()) => ended(verdict, tally, unchanged),
            Err(error) => ended(Verdict::Failed(error.problem()), tally, unchanged),
        })
    }

    /// Ends the run, says that the venue reboots, and asks it to. In this order: it may go down within milliseconds.
    fn go_down(&mut self, hands: Hands, boot: &BootMark) -> Result<(), WorkError> {
        let last = hands.close_to_reboot()?;
        self.event(Event::Rebooting { boot: boot.clone() });
        last.map_or(Ok(()), Party::reboot)
    }

    /// Says what would change.
    fn show(
        &mut self,
        hands: &mut Hands,
        apply: &Apply,
        looked: &Looked,
        stale: &[(Side, Release)],
        gates: &BTreeSet<Gate>,
    ) -> Result<(), WorkError> {
        let mut steps = looked.diffs.clone();
        for (side, releases) in by_side(stale) {
            if let Some(party) = hands.of(side) {
                steps.extend(party.preview(&releases, ReleaseOptions::default())?);
            }
        }
        let tokens = self.settings.facts.user.tokens();
        let artifacts = apply.plan.candies.iter().flat_map(|candy| &candy.artifacts);
        let retrieves = artifacts
            .map(|artifact| Retrieval { path: artifact.path.resolve(&tokens), to: artifact.retrieve_to.clone() })
            .collect();
        let (gates, warnings) = (gates.clone(), looked.warnings.clone());
        self.peer.send(Reply::Diff(Diff { steps, gates, warnings, retrieves }));
        Ok(())
    }

    /// Goes on only if every gate is open.
    fn pass_gates(&mut self, apply: &Apply, needed: &BTreeSet<Gate>, _hands: &mut Hands) -> Or<()> {
        let open = match &apply.mode {
            Mode::Go { gates } => gates.clone(),
            Mode::DryRun => BTreeSet::new(),
            Mode::Ask => match self.peer.receive() {
                Some(Frame::Message(Request::Proceed { gates })) => gates,
                _ => return Err(Box::new(Done::verdict(Verdict::Cancelled))),
            },
        };
        let shut: Vec<_> = needed.difference(&open).map(|gate| format!("`{}`", gate.flag())).collect();
        if shut.is_empty() {
            return Ok(());
        }
        let problem = Problem::new("the plan needs a permission that was not given")
            .hint(format!("give {}, or `-y` for all", shut.join(" and ")));
        Err(Box::new(Done::verdict(Verdict::Refused(problem))))
    }

    /// Asks for what is lacking until nothing is: first what fetching steps place, then the bytes.
    fn supply(&mut self, hands: &mut Hands, deploy: &DeployId, apply: &Apply, looked: &mut Looked) -> Or<()> {
        let stop = |error: WorkError| Box::new(untouched(&error));
        looked.need.blobs.retain(|blob| !apply.follows.contains(blob));
        looked.need.have.retain(|blob, _| !apply.follows.contains(blob));
        self.arrive(hands, &[], &apply.follows)?;
        while looked.need != Need::default() {
            let need = std::mem::take(&mut looked.need);
            self.peer.send(Reply::Need(need.clone()));
            self.arrive(hands, &need.manifests, &need.blobs)?;
            // What manifests bring may be blobs again; bytes alone change nothing of what is known, but those that were
            // added to a damaged beginning are lacking still.
            if need.manifests.is_empty() {
                looked.need = hands.lacking().map_err(stop)?;
            } else {
                *looked = hands.look(deploy, apply).map_err(stop)?;
            }
        }
        Ok(())
    }

    /// Takes in what is on its way. What turns out to be there already is taken and dropped.
    fn arrive(&mut self, hands: &mut Hands, manifests: &[u32], blobs: &[Digest]) -> Or<()> {
        let stop = |error: WorkError| Box::new(untouched(&error));
        let mut manifests: BTreeSet<u32> = manifests.iter().copied().collect();
        let mut blobs: BTreeSet<_> = blobs.iter().copied().collect();
        let mut left = 0_u64;
        while !manifests.is_empty() || !blobs.is_empty() || left > 0 {
            match self.peer.receive() {
                Some(Frame::Message(Request::Manifest(manifest))) => {
                    manifests.remove(&manifest.step);
                    hands.each(|party| party.supply(&manifest)).map_err(stop)?;
                }
                Some(Frame::Message(Request::Blob { digest, size, from })) => {
                    blobs.remove(&digest);
                    left = size.saturating_sub(from);
                    hands.each(|party| party.begin_blob(digest, size, from)).map_err(stop)?;
                }
                Some(Frame::Chunk(bytes)) if bytes.len() as u64 <= left => {
                    left -= bytes.len() as u64;
                    hands.each(|party| party.blob(&bytes)).map_err(stop)?;
                }
                Some(Frame::Message(Request::Missing { problem })) => {
                    return Err(Box::new(Done::verdict(Verdict::Invalid(problem))));
                }
                None => return Err(Box::new(Done::verdict(Verdict::Cancelled))),
                Some(_) => return Err(stop(WorkError::Plan("the controller spoke out of turn".to_owned()))),
            }
        }
        Ok(())
    }

    /// Carries the plan out, then takes away what is no longer in it.
    #[expect(clippy::too_many_arguments, reason = "one run's whole state, used nowhere else")]
    fn carry_out(
        &mut self,
        hands: &mut Hands,
        deploy: &DeployId,
        apply: &Apply,
        looked: &mut Looked,
        stale: &[(Side, Release)],
        old: Option<&DeployRecord>,
        tally: &mut Tally,
    ) -> Result<Option<Verdict>, WorkError> {
        let mut under_way = record_of(apply, DeployState::Interrupted);
        let known: BTreeSet<_> = under_way.candies.iter().map(|candy| candy.name.clone()).collect();
        let leaving = old.map(|old| old.candies.clone()).unwrap_or_default();
        under_way.candies.extend(leaving.into_iter().filter(|candy| !known.contains(&candy.name)));
        hands.each(|party| {
            party.begin(&apply.run, deploy, "apply")?;
            party.record(deploy, Some(under_way.clone()))
        })?;
        let count = looked.due.len() + stale.len();
        self.event(Event::RunStarted { steps: u32::try_from(count).unwrap_or(u32::MAX) });
        let reboots = looked.settle_reboots();
        if !reboots.is_empty() {
            hands.each(|party| party.owe(&reboots, false))?;
        }
        let mut warned = false;
        for (side, indices) in runs(&apply.plan, &looked.due) {
            let Some(party) = hands.of(side) else { continue };
            if !indices.is_disjoint(&reboots) {
                if let Some(verdict) = self.reboot(party, apply, &indices)? {
                    return Ok(Some(verdict));
                }
                if !std::mem::replace(&mut warned, true) {
                    let text = left_to_the_user(&apply.plan, &reboots);
                    self.event(Event::Warning { text });
                }
            }
            let peer = &mut self.peer;
            let mut sink = |event| peer.send(Reply::Event(event));
            if let Err((index, error)) = party.converge(apply, &indices, &mut sink, tally) {
                return Err(self.step_failed(apply, index, error));
            }
        }
        for (side, releases) in by_side(stale) {
            let Some(party) = hands.of(side) else { continue };
            let peer = &mut self.peer;
            party.release(&releases, ReleaseOptions::default(), &mut |event| peer.send(Reply::Event(event)), tally)?;
        }
        let state = if tally.pending.is_empty() { DeployState::Complete } else { DeployState::UndoPending };
        let record =
            if tally.pending.is_empty() { record_of(apply, state) } else { DeployRecord { state, ..under_way } };
        hands.each(|party| party.record(deploy, Some(record.clone())))?;
        Ok(None)
    }

    /// Ends the run at a reboot, unless it is to go on without. Several reboots with nothing to be done between them
    /// are one.
    fn reboot(
        &mut self,
        party: &mut dyn Party,
        apply: &Apply,
        reboots: &BTreeSet<u32>,
    ) -> Result<Option<Verdict>, WorkError> {
        if self.settings.cancel.is_requested() {
            return Err(WorkError::Cancelled);
        }
        match apply.reboot {
            RebootPolicy::Stop => {
                party.owe(reboots, true)?;
                Ok(Some(Verdict::RebootDue))
            }
            RebootPolicy::Perform if self.settings.reboot.is_some() => {
                party.owe(reboots, true)?;
                Ok(Some(Verdict::Rebooting { boot: self.settings.facts.boot.clone() }))
            }
            RebootPolicy::Perform | RebootPolicy::Skip => Ok(None),
        }
    }

    /// Tells the controller which step failed, and returns the error with the step in front.
    fn step_failed(&mut self, apply: &Apply, index: u32, error: WorkError) -> WorkError {
        if matches!(error, WorkError::Cancelled | WorkError::Ledger(_)) {
            return error;
        }
        let problem = error.problem();
        let outcome = Outcome::Failed(problem.clone());
        self.event(Event::StepFinished { index, outcome, details: Vec::new(), took_ms: 0 });
        let step = apply.plan.steps().nth(index as usize);
        let name = step.map(|(candy, step)| format!("{}/{}", candy.name, step.id)).unwrap_or_default();
        let mut outer = Problem::new(format!("step `{name}` failed")).because(problem.what);
        outer.because.extend(problem.because);
        outer.hint = problem.hint;
        WorkError::Program(Box::new(outer))
    }
}

/// Refuses plans that this engine cannot read or that were made for another kind of venue.
fn judge_plan(apply: &Apply, os: &str, arch: &str) -> Result<(), WorkError> {
    let plan = &apply.plan;
    if plan.format > FORMAT {
        let why = format!("the plan has format {}, newer than this engine's {FORMAT}", plan.format);
        return Err(WorkError::Plan(why));
    }
    if plan.os != os || plan.arch != arch {
        let why = format!("the plan is for {} on {}, and this is {os} on {arch}", plan.os, plan.arch);
        return Err(WorkError::Plan(why));
    }
    let mut seen = BTreeSet::new();
    for (candy, step) in plan.steps() {
        if !seen.insert((&candy.name, &step.id)) {
            return Err(WorkError::Plan(format!("`{}` has two steps named `{}`", candy.name, step.id)));
        }
    }
    Ok(())
}

/// Refuses steps that cannot be carried out, or undone where that is asked for, before anything is touched.
fn judge_steps(apply: &Apply, looked: &Looked) -> Or<()> {
    let refuse = |what: &str, steps: Vec<String>, hint: &str| {
        let mut problem = Problem::new(what);
        problem.because = steps;
        Box::new(Done::verdict(Verdict::Invalid(problem.hint(hint))))
    };
    let skipped = looked.diffs.iter().filter(|diff| diff.change == Change::Skip);
    let reason = |diff: &charly_ir::message::StepDiff| {
        diff.details.first().and_then(|detail| detail.note.clone()).unwrap_or_default()
    };
    let skipped: Vec<_> = skipped.map(|diff| format!("{}/{}: {}", diff.candy, diff.id, reason(diff))).collect();
    if !skipped.is_empty() && !apply.skip_incompatible && apply.mode != Mode::DryRun {
        return Err(refuse(
            "this venue cannot carry out every step",
            skipped,
            "`--skip-incompatible` passes over them",
        ));
    }
    if apply.undoable_only && !looked.not_undoable.is_empty() {
        let named = |diff: &&charly_ir::message::StepDiff| looked.not_undoable.contains(&diff.index);
        let steps = looked.diffs.iter().filter(named).map(|diff| format!("{}/{}", diff.candy, diff.id)).collect();
        let hint = "declare what they make with `uninstall:`, or leave `--undoable-only` out";
        return Err(refuse("some steps cannot be undone", steps, hint));
    }
    Ok(())
}

/// Returns the steps that a deploy has and its plan no longer holds, in the order of undoing.
fn stale(
    hands: &mut Hands,
    deploy: &DeployId,
    plan: &InstallPlan,
    old: Option<&DeployRecord>,
) -> Result<Vec<(Side, Release)>, WorkError> {
    let current: BTreeSet<_> = plan.steps().map(|(candy, step)| (&candy.name, &step.id)).collect();
    let mut steps = hands.steps_of(deploy)?;
    steps.retain(|(_, key)| !current.contains(&(&key.candy, &key.step)));
    let first = u32::try_from(plan.steps().count()).unwrap_or(u32::MAX);
    Ok(in_order_of_undoing(steps, old, first))
}

/// Orders steps for undoing: what came last goes first. Steps that no record places go before all others.
pub(super) fn in_order_of_undoing(
    mut steps: Vec<(Side, StepKey)>,
    record: Option<&DeployRecord>,
    first: u32,
) -> Vec<(Side, Release)> {
    let mut place = BTreeMap::new();
    let candies = record.map(|record| record.candies.as_slice()).unwrap_or_default();
    for (candy, step) in candies.iter().flat_map(|candy| candy.steps.iter().map(move |step| (&candy.name, step))) {
        let next = place.len();
        place.entry((candy, step)).or_insert(next);
    }
    steps.sort_by_key(|(_, key)| std::cmp::Reverse(place.get(&(&key.candy, &key.step)).copied().unwrap_or(usize::MAX)));
    let numbered = (first..).zip(steps);
    numbered.map(|(index, (side, key))| (side, Release { index, key })).collect()
}

/// Cuts a sequence into runs of one side each.
pub(super) fn by_side(releases: &[(Side, Release)]) -> Vec<(Side, Vec<Release>)> {
    let mut runs: Vec<(Side, Vec<Release>)> = Vec::new();
    for (side, release) in releases {
        match runs.last_mut() {
            Some((last, run)) if last == side => run.push(release.clone()),
            _ => runs.push((*side, vec![release.clone()])),
        }
    }
    runs
}

/// Cuts the due steps into runs of one side each; reboots are runs of their own.
fn runs(plan: &InstallPlan, due: &BTreeSet<u32>) -> Vec<(Side, BTreeSet<u32>)> {
    let mut runs: Vec<(Side, bool, BTreeSet<u32>)> = Vec::new();
    for (index, (_, step)) in (0_u32..).zip(plan.steps()) {
        if !due.contains(&index) {
            continue;
        }
        let (side, reboot) = (locate(&step.scope), step.action == Action::Reboot);
        match runs.last_mut() {
            Some((last, reboots, run)) if (*last, *reboots) == (side, reboot) => drop(run.insert(index)),
            _ => runs.push((side, reboot, BTreeSet::from([index]))),
        }
    }
    runs.into_iter().map(|(side, _, run)| (side, run)).collect()
}

/// Says which candies ask for a reboot that is not made.
fn left_to_the_user(plan: &InstallPlan, reboots: &BTreeSet<u32>) -> String {
    let steps = (0_u32..).zip(plan.steps()).filter(|(index, _)| reboots.contains(index));
    let mut names: Vec<_> = steps.map(|(_, (candy, _))| format!("`{}`", candy.name)).collect();
    names.dedup();
    let ask = if names.len() == 1 { "asks" } else { "ask" };
    format!("{} {ask} for a reboot, which is left to you", names.join(" and "))
}

fn record_of(apply: &Apply, state: DeployState) -> DeployRecord {
    let candies = apply.plan.candies.iter().map(|candy| CandyRecord {
        name: candy.name.clone(),
        version: candy.version.clone(),
        requires: candy.requires.clone(),
        steps: candy.steps.iter().map(|step| step.id.clone()).collect(),
        digest: Some(candy.digest()),
        artifacts: candy.artifacts.iter().map(|artifact| artifact.path.clone()).collect(),
    });
    DeployRecord { layers: apply.layers.clone(), candies: candies.collect(), state, updated_s: now_s() }
}

fn is_same(old: &DeployRecord, new: &DeployRecord) -> bool {
    let DeployRecord { layers, candies, state, updated_s: _ } = old;
    (layers, candies, state) == (&new.layers, &new.candies, &new.state)
}

pub(super) fn ended(verdict: Verdict, tally: Tally, unchanged: u32) -> Done {
    let Tally { changed, removed, kept, pending: _ } = tally;
    Done { verdict, changed, unchanged, removed, kept }
}

trait HintOr {
    fn hint_or(self, hint: &str) -> Self;
}

impl HintOr for Problem {
    /// Adds what to do next where the problem itself does not know better.
    fn hint_or(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }
}
