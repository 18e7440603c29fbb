//! Takes candies, or all of a deploy, away. No recipe is needed: the ledger knows.

use std::collections::BTreeSet;

use charly_ir::frame::Frame;
use charly_ir::message::{DeployState, Diff, Done, Event, Mode, Problem, Remove, Reply, Request, Verdict};

use super::apply::{by_side, ended, in_order_of_undoing};
use super::{Session, untouched};
use crate::ledger::{DeployId, DeployRecord, StepKey};
use crate::venue::Side;
use crate::worker::{ReleaseOptions, Tally, WorkError, pending_problem};

impl Session<'_> {
    pub(super) fn remove(&mut self, remove: &Remove) -> Done {
        self.try_remove(remove).unwrap_or_else(|done| *done)
    }

    fn try_remove(&mut self, remove: &Remove) -> Result<Done, Box<Done>> {
        let stop = |error: WorkError| Box::new(untouched(&error));
        let deploy = self.deploy_id(&remove.deploy).map_err(stop)?;
        let mut hands = self.reading().map_err(stop)?;
        let known = hands.deploy(&deploy).map_err(stop)?;
        let steps = hands.steps_of(&deploy).map_err(stop)?;
        let remains = hands.remains_of(&deploy).map_err(stop)?;
        if known.is_none() && steps.is_empty() && (remains.is_empty() || !remove.purge) {
            if remove.mode != Mode::DryRun {
                self.sweep(&remove.run, &deploy);
            }
            return Err(Box::new(unknown(&deploy, &remains)));
        }
        if remove.mode != Mode::DryRun {
            let asks_root = remove.purge && remains.iter().any(|(side, _)| *side == Side::System);
            hands = self.writing(&remove.run, &deploy, asks_root).map_err(stop)?;
        }
        // Once more: what was read before the lock was had may have changed.
        let old = hands.deploy(&deploy).map_err(stop)?;
        let mut remains = if remove.purge { hands.remains_of(&deploy).map_err(stop)? } else { Vec::new() };
        let is_named = |candy: &String| remove.layers.is_empty() || remove.layers.contains(candy);
        remains.retain(|(_, key)| is_named(&key.candy));
        let is_held = |layer: &String| old.iter().flat_map(|old| &old.candies).any(|candy| candy.name == *layer);
        let layers: Vec<String> = remove
            .layers
            .iter()
            .filter(|layer| is_held(layer) || !remains.iter().any(|(_, key)| key.candy == **layer))
            .cloned()
            .collect();
        let stays = match &old {
            Some(old) if !remove.layers.is_empty() => {
                Some(without(old, &layers, &remove.deploy)?).filter(|stays| !stays.layers.is_empty())
            }
            None if !layers.is_empty() => return Err(Box::new(unknown(&deploy, &remains))),
            _ => None,
        };
        let mut steps = hands.steps_of(&deploy).map_err(stop)?;
        if let Some(stays) = &stays {
            steps.retain(|(_, key)| !stays.candies.iter().any(|candy| candy.name == key.candy));
        }
        steps.extend(remains);
        let releases = in_order_of_undoing(steps, old.as_ref(), 0);
        let mut diffs = Vec::new();
        for (side, run) in by_side(&releases) {
            if let Some(party) = hands.of(side) {
                diffs.extend(party.preview(&run, options_of(remove)).map_err(stop)?);
            }
        }
        self.peer.send(Reply::Diff(Diff { steps: diffs, ..Diff::default() }));
        match remove.mode {
            Mode::DryRun => return Ok(Done::verdict(Verdict::Ok)),
            Mode::Go { .. } => {}
            Mode::Ask => {
                if !matches!(self.peer.receive(), Some(Frame::Message(Request::Proceed { .. }))) {
                    hands.close().map_err(stop)?;
                    return Ok(Done::verdict(Verdict::Cancelled));
                }
            }
        }
        let mut tally = Tally::default();
        let result = self.take_away(&mut hands, remove, &deploy, &releases, old, stays.as_ref(), &mut tally);
        let verdict = match result {
            Err(error @ WorkError::Ledger(_)) => return Ok(ended(Verdict::Failed(error.problem()), tally, 0)),
            Err(WorkError::Cancelled) => Verdict::Cancelled,
            Err(error) => Verdict::Failed(error.problem()),
            Ok(()) if tally.pending.is_empty() => Verdict::Ok,
            Ok(()) => Verdict::Failed(pending_problem(&remove.deploy, &tally.pending)),
        };
        Ok(match hands.close() {
            Ok(()) => ended(verdict, tally, 0),
            Err(error) => ended(Verdict::Failed(error.problem()), tally, 0),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one run's whole state, used nowhere else")]
    fn take_away(
        &mut self,
        hands: &mut super::hands::Hands,
        remove: &Remove,
        deploy: &DeployId,
        releases: &[(Side, crate::worker::Release)],
        old: Option<DeployRecord>,
        stays: Option<&DeployRecord>,
        tally: &mut Tally,
    ) -> Result<(), WorkError> {
        let under_way = old.map(|old| DeployRecord { state: DeployState::UndoPending, ..old });
        hands.each(|party| {
            party.begin(&remove.run, deploy, "remove")?;
            under_way.clone().map_or(Ok(()), |record| party.record(deploy, Some(record)))
        })?;
        self.event(Event::RunStarted { steps: u32::try_from(releases.len()).unwrap_or(u32::MAX) });
        let options = options_of(remove);
        for (side, run) in by_side(releases) {
            let Some(party) = hands.of(side) else { continue };
            let peer = &mut self.peer;
            party.release(&run, options, &mut |event| peer.send(Reply::Event(event)), tally)?;
        }
        if tally.pending.is_empty() {
            hands.each(|party| party.record(deploy, stays.cloned()))?;
        }
        Ok(())
    }
}

fn options_of(remove: &Remove) -> ReleaseOptions {
    let Remove { keep_repo_changes, keep_services, purge, .. } = *remove;
    ReleaseOptions { keep_repo_changes, keep_services, purge }
}

fn unknown(deploy: &DeployId, remains: &[(Side, StepKey)]) -> Done {
    let problem = Problem::new(format!("this venue holds no deploy `{}`", deploy.name));
    let candies: BTreeSet<_> = remains.iter().map(|(_, key)| format!("`{}`", key.candy)).collect();
    let candies: Vec<_> = candies.into_iter().collect();
    Done::verdict(Verdict::Invalid(problem.hint(if candies.is_empty() {
        "`charly bundle list` shows what is deployed".to_owned()
    } else {
        let name = &deploy.name;
        format!("data of {} was kept; `charly bundle del {name} --purge` removes it", candies.join(", "))
    })))
}

/// Returns what a deploy is without some layers, and without the candies that only they needed.
fn without(old: &DeployRecord, layers: &[String], deploy: &str) -> Result<DeployRecord, Box<Done>> {
    let invalid = |problem| Box::new(Done::verdict(Verdict::Invalid(problem)));
    for name in layers {
        let is_layer = old.layers.iter().any(|layer| layer.candy == *name || layer.reference == *name);
        let users: Vec<_> = old.candies.iter().filter(|candy| candy.requires.contains(name)).collect();
        let leaving = |candy: &str| layers.iter().any(|name| name == candy);
        if let Some(user) = users.iter().find(|candy| !leaving(&candy.name)) {
            let problem = Problem::new(format!("`{name}` is required by `{}`, which stays", user.name))
                .hint(format!("take `{}` away, too: `charly bundle del {deploy} {} {name}`", user.name, user.name));
            return Err(Box::new(Done::verdict(Verdict::Refused(problem))));
        }
        if !is_layer {
            let held: Vec<_> = old.layers.iter().map(|layer| format!("`{}`", layer.candy)).collect();
            let problem = Problem::new(format!("`{deploy}` holds no layer `{name}`"));
            return Err(invalid(problem.hint(format!("it holds {}", held.join(", ")))));
        }
    }
    let mut stays = old.clone();
    stays.layers.retain(|layer| !layers.contains(&layer.candy) && !layers.contains(&layer.reference));
    let mut needed: BTreeSet<String> = stays.layers.iter().map(|layer| layer.candy.clone()).collect();
    // Dependencies come first, so one pass from the end finds all that is needed.
    for candy in stays.candies.iter().rev() {
        if needed.contains(&candy.name) {
            needed.extend(candy.requires.iter().cloned());
        }
    }
    stays.candies.retain(|candy| needed.contains(&candy.name));
    stays.state = DeployState::Complete;
    Ok(stays)
}
