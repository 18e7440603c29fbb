//! Tells what is known, and evaluates checks.

use std::time::Instant;

use charly_ir::message::{
    CheckRequest, CheckResult, Claim, Done, Drifted, Event, Inspect, Owned, Problem, Reply, Report, Verdict,
};

use super::hand::Hand;
use super::{Session, summarize, untouched, venue};
use crate::ledger::{Entry, Resource, State};
use crate::venue::Side;
use crate::worker::{WorkError, deploy_name};

impl Session<'_> {
    pub(super) fn inspect(&mut self, inspect: &Inspect) -> Done {
        let report = match inspect {
            Inspect::Show { deploy } => self.show_deploy(deploy),
            Inspect::Why { subject } => self.why(subject),
            Inspect::Drift { deploy } => self.drift(deploy),
        };
        match report {
            Ok(report) => {
                self.peer.send(Reply::Report(report));
                Done::verdict(Verdict::Ok)
            }
            Err(error) => untouched(&error),
        }
    }

    fn show_deploy(&mut self, name: &str) -> Result<Report, WorkError> {
        let id = self.deploy_id(name)?;
        let record = self.reading()?.deploy(&id)?.ok_or_else(|| unknown(name))?;
        let owned = self.entries(|_, entry| entry.all_claims().any(|claim| claim.deploy == id.to_string()))?;
        Ok(Report::Show { deploy: summarize(&id, &record), resources: owned.iter().map(owned_of).collect() })
    }

    fn why(&mut self, subject: &str) -> Result<Report, WorkError> {
        let matches = |resource: &Resource| match resource {
            Resource::Path(path) | Resource::Caps(path) | Resource::Block { path, .. } => path == subject,
            Resource::Unit { name, .. } => name == subject || name.strip_suffix(".service") == Some(subject),
            Resource::Linger(user) => user == subject,
            Resource::Packages(_) | Resource::Command(_) => false,
        };
        let found = self
            .entries(|resource, entry| matches(resource) || crate::resource::brought_package(&entry.want, subject))?;
        let named = |found: &(Resource, Entry)| match found.0 {
            // Its step may have brought many; the one that was asked about is the answer.
            Resource::Packages(_) => Owned { what: "package".into(), subject: subject.into(), ..owned_of(found) },
            _ => owned_of(found),
        };
        Ok(Report::Why { owned: found.iter().map(named).collect() })
    }

    fn drift(&mut self, name: &str) -> Result<Report, WorkError> {
        let id = self.deploy_id(name)?;
        self.reading()?.deploy(&id)?.ok_or_else(|| unknown(name))?;
        let (mut drifted, mut compared, mut hidden) = (Vec::new(), 0, 0);
        for side in [Side::User, Side::System] {
            let venue = venue(self.settings, side)?;
            let hand = Hand::reading(super::venue(self.settings, side)?)?;
            for (resource, entry) in &hand.book().entries {
                if !entry.all_claims().any(|claim| claim.deploy == id.to_string()) {
                    continue;
                }
                let difference = match crate::resource::drift(&venue, resource, entry) {
                    Err(WorkError::Tree(error)) if venue.is_blind_for(&error) => {
                        hidden += 1;
                        continue;
                    }
                    Err(error) => Some(format!("it cannot be looked at: {error}")),
                    Ok(difference) => difference,
                };
                compared += 1;
                if let Some(how) = difference {
                    drifted.push(Drifted {
                        what: what(resource, entry).to_owned(),
                        subject: resource.subject().to_owned(),
                        how,
                        claims: claims(entry),
                    });
                }
            }
        }
        Ok(Report::Drift { drifted, compared, hidden })
    }

    fn entries(&self, wanted: impl Fn(&Resource, &Entry) -> bool) -> Result<Vec<(Resource, Entry)>, WorkError> {
        let mut found = Vec::new();
        for side in [Side::User, Side::System] {
            let hand = Hand::reading(venue(self.settings, side)?)?;
            let entries = hand.book().entries.iter().filter(|(resource, entry)| wanted(resource, entry));
            found.extend(entries.map(|(resource, entry)| (resource.clone(), entry.clone())));
        }
        Ok(found)
    }

    /// Evaluates checks in order; one that fails does not stop the others.
    pub(super) fn check(&mut self, request: &CheckRequest) -> Done {
        let context = crate::check::CheckContext {
            root: &self.settings.root,
            facts: &self.settings.facts,
            run_as: None,
            path_append: &[],
            scratch: std::path::Path::new("/tmp"),
        };
        let mut failed = 0;
        for (candy, check) in &request.checks {
            if self.settings.cancel.is_requested() {
                return Done::verdict(Verdict::Cancelled);
            }
            let started = Instant::now();
            let result = crate::check::evaluate(check, &context, &self.settings.cancel);
            failed += u32::from(matches!(result, CheckResult::Failed { .. }));
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (candy, id, title) = (candy.clone(), check.id.clone(), check.title.clone());
            self.event(Event::Checked { candy, id, title, result, took_ms });
        }
        match failed {
            0 => Done::verdict(Verdict::Ok),
            1 => Done::verdict(Verdict::Failed(Problem::new("a check failed"))),
            many => Done::verdict(Verdict::Failed(Problem::new(format!("{many} checks failed")))),
        }
    }
}

fn owned_of((resource, entry): &(Resource, Entry)) -> Owned {
    let before = match &entry.before.state {
        State::Node(node) => node.what().to_owned(),
        State::Block(_) => "no such block".to_owned(),
        State::Unit(unit) => match (unit.enabled, unit.active) {
            (true, true) => "enabled and running",
            (true, false) => "enabled",
            (false, true) => "running",
            (false, false) => "off",
        }
        .to_owned(),
        State::On(on) => if *on { "on" } else { "off" }.to_owned(),
        _ => "nothing".to_owned(),
    };
    let what = what(resource, entry).to_owned();
    Owned { what, subject: resource.subject().to_owned(), before, claims: claims(entry) }
}

fn what(resource: &Resource, entry: &Entry) -> &'static str {
    match &entry.want {
        State::Node(node) => node.what(),
        State::Secret { .. } => "secret file",
        _ => resource.what(),
    }
}

/// Returns the claims with deploys' names as their users know them.
fn claims(entry: &Entry) -> Vec<Claim> {
    let named = |claim: &Claim| Claim { deploy: deploy_name(&claim.deploy).to_owned(), ..claim.clone() };
    entry.all_claims().map(named).collect()
}

fn unknown(name: &str) -> WorkError {
    let problem = Problem::new(format!("this venue holds no deploy `{name}`"));
    WorkError::Unfit(Box::new(problem.hint("`charly bundle list` shows what is deployed")))
}
