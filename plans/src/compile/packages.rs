//! Packages, and builders.

use std::collections::{BTreeMap, BTreeSet};

use charly_ir::plan::{Action, Builder, BuilderKind, Packages, Phase, Scope};

use super::candy::Context;
use super::distro::family;
use crate::read::{Problem, listing};
use crate::schema::{DistroSection, PackageStep, Spanned};
use crate::source::Span;

/// Compiles the packages of every section that holds.
pub(super) fn compile(cx: &mut Context<'_>) {
    let candy = cx.candy;
    let sections = cx.venue.names.sections(&candy.distro);
    if sections.is_empty() && !candy.distro.is_empty() && candy.package.is_empty() {
        refuse_distro(cx);
    }
    let mut install: BTreeMap<&str, Span> = BTreeMap::new();
    install.extend(candy.package.iter().map(|package| (package.name.as_str(), package.span)));
    for (_, section) in &sections {
        for name in &section.without {
            if install.remove(name.as_str()).is_none() {
                let message = format!("no less specific section has the package `{}`", name.value);
                cx.warning(name.span, message);
            }
        }
        install.extend(section.package.iter().map(|package| (package.name.as_str(), package.span)));
        for name in section.aur.iter().flat_map(|aur| &aur.replace) {
            install.remove(name.as_str());
        }
    }
    if let Some((_, span)) = install.iter().next() {
        let Some(manager) = cx.venue.facts.package_manager else {
            let message = format!("{} has no package manager that charly knows", cx.venue.facts.os.tag());
            return cx.incompatible("packages", *span, message.into());
        };
        let names: Vec<_> = install.keys().map(|name| (*name).to_owned()).collect();
        let title = format!("install {}", names.join(", "));
        let packages = Packages {
            manager,
            install: names,
            exclude: strings(most_specific(&sections, |section| section.exclude.as_ref())),
            options: strings(most_specific(&sections, |section| section.option.as_ref())),
            modules: strings(most_specific(&sections, |section| section.module.as_ref())),
        };
        cx.add("packages", &title, Scope::System, None, Phase::Packages, Action::SystemPackages(packages));
    }
}

/// Compiles the builders that the candy's files ask for.
pub(super) fn compile_builders(cx: &mut Context<'_>, phase: Phase) {
    let files = &cx.resolved.build_files;
    let has = |name: &str| files.contains_key(name);
    let uv = has("uv.lock") || has("requirements.txt");
    let sections = cx.venue.names.sections(&cx.candy.distro);
    let aur = sections.iter().filter_map(|(_, section)| section.aur.as_ref()).flat_map(|aur| &aur.package);
    let aur: BTreeSet<_> = aur.map(|package| package.name.clone()).collect();
    let asked: [(BuilderKind, bool, &[&str]); 5] = [
        (BuilderKind::Npm, has("package.json"), &["package.json", "package-lock.json"]),
        (BuilderKind::Cargo, has("Cargo.toml"), &["Cargo.toml", "Cargo.lock"]),
        (
            BuilderKind::Pixi,
            has("pixi.toml") || has("environment.yml") || (has("pyproject.toml") && !uv),
            &["pixi.toml", "pixi.lock", "pyproject.toml", "environment.yml"],
        ),
        (BuilderKind::Uv, uv && !has("pixi.toml"), &["pyproject.toml", "uv.lock", "requirements.txt"]),
        (BuilderKind::Aur, !aur.is_empty(), &[]),
    ];
    for (kind, wanted, inputs) in asked {
        if !wanted {
            continue;
        }
        let mut digests = BTreeMap::new();
        for name in inputs {
            if let Some(file) = files.get(name) {
                cx.blobs.insert(file.digest, file.blob.clone());
                digests.insert((*name).to_owned(), file.digest);
            }
        }
        let aur_alone = kind == BuilderKind::Aur;
        let packages = if aur_alone { aur.iter().cloned().collect() } else { Vec::new() };
        let scope = if aur_alone { Scope::System } else { Scope::User };
        let action = Action::Builder(Builder { kind, inputs: digests, packages });
        cx.add(&format!("builder:{kind}"), &format!("build with {kind}"), scope, None, phase, action);
    }
}

/// Compiles a package named by a step.
pub(super) fn compile_step(cx: &mut Context<'_>, step: &PackageStep, title: &str) {
    let name = cx.venue.names.choose(&step.package_map).map_or(&step.package.name, |name| name);
    let Some(manager) = cx.venue.facts.package_manager else {
        let message = format!("{} has no package manager that charly knows", cx.venue.facts.os.tag());
        return cx.incompatible("packages", step.package.span, message.into());
    };
    let packages = Packages {
        manager,
        install: vec![name.clone()],
        exclude: Vec::new(),
        options: Vec::new(),
        modules: Vec::new(),
    };
    let id = format!("package:{name}");
    cx.add(&id, title, Scope::System, None, Phase::Configure, Action::SystemPackages(packages));
}

/// Returns the value of the most specific section that has one.
pub(super) fn most_specific<'m, T>(
    sections: &[(&'m Spanned<String>, &'m DistroSection)],
    value: impl Fn(&'m DistroSection) -> Option<&'m Vec<T>>,
) -> &'m [T] {
    sections.iter().rev().find_map(|(_, section)| value(section)).map_or(&[], Vec::as_slice)
}

fn strings(values: &[Spanned<String>]) -> Vec<String> {
    values.iter().map(|value| value.value.clone()).collect()
}

fn refuse_distro(cx: &mut Context<'_>) {
    let facts = cx.venue.facts;
    let named: BTreeSet<_> = cx.candy.distro.iter().flat_map(|(names, _)| names.split(',')).map(str::trim).collect();
    let named: Vec<_> = named.into_iter().collect();
    let message =
        format!("`{}` has packages for {} and none for {}", cx.loaded.name(), listing(&named), facts.os.tag());
    let hint = match facts.package_manager {
        Some(manager) => format!("add a section `{}` or `{}` under `distro`", facts.os.id, family(manager)),
        None => format!("add a section `{}` under `distro`", facts.os.id),
    };
    let at = cx.candy.distro.iter().next().map_or(cx.candy.name.span, |(name, _)| name.span);
    cx.incompatible("distro", at, Problem::new(message, hint));
}
