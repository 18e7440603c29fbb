//! Packages, and builders.

use std::collections::{BTreeMap, BTreeSet};

use charly_ir::Text;
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
            files: Vec::new(),
        };
        cx.add("packages", &title, Scope::System, None, Phase::Packages, Action::SystemPackages(packages));
    }
}

/// Compiles the builders that the candy's files ask for. Each sees the whole folder: what it reads there is its own business.
pub(super) fn compile_builders(cx: &mut Context<'_>, phase: Phase) {
    let files = match &cx.resolved.build_files {
        Ok(files) => files,
        Err(why) => return cx.error(cx.candy.name.span, format!("the candy's folder cannot be built from: {why}")),
    };
    let has = |name: &str| files.contains_key(name);
    let uv = has("uv.lock") || has("requirements.txt");
    let sections = cx.venue.names.sections(&cx.candy.distro);
    let aur = sections.iter().filter_map(|(_, section)| section.aur.as_ref()).flat_map(|aur| &aur.package);
    let aur: BTreeSet<_> = aur.map(|package| package.name.clone()).collect();
    let asked = [
        (BuilderKind::Npm, has("package.json")),
        (BuilderKind::Cargo, has("Cargo.toml")),
        (BuilderKind::Pixi, has("pixi.toml") || has("environment.yml") || (has("pyproject.toml") && !uv)),
        (BuilderKind::Uv, uv && !has("pixi.toml")),
        (BuilderKind::Aur, !aur.is_empty()),
    ];
    for (kind, _) in asked.into_iter().filter(|(_, wanted)| *wanted) {
        let (mut inputs, mut packages, mut scope) = (BTreeMap::new(), Vec::new(), Scope::User);
        if kind == BuilderKind::Aur {
            packages = aur.iter().cloned().collect();
            scope = Scope::System;
        } else {
            for (name, file) in files {
                cx.blobs.insert(file.digest, file.blob.clone());
                inputs.insert(name.clone(), file.digest);
            }
        }
        let to = folder(kind, cx.loaded.name());
        if kind != BuilderKind::Aur {
            cx.built.push(Text::new(format!("{to}/bin")));
        }
        let (to, image) = (Text::new(to), cx.venue.options.builders.get(&kind).cloned());
        let action = Action::Builder(Builder { kind, inputs, packages, to, image });
        cx.add(&format!("builder:{kind}"), &format!("build with {kind}"), scope, None, phase, action);
    }
}

/// Returns the folder that a builder builds for: where its tool keeps what a user installs.
fn folder(kind: BuilderKind, candy: &str) -> String {
    match kind {
        BuilderKind::Npm => "{{.Home}}/.npm-global".to_owned(),
        BuilderKind::Cargo => "{{.Home}}/.cargo".to_owned(),
        BuilderKind::Pixi => "{{.Home}}/.pixi/envs/default".to_owned(),
        // One environment a candy: two sets of locked versions are not one.
        BuilderKind::Uv => format!("{{{{.Home}}}}/.local/share/venvs/{candy}"),
        BuilderKind::Aur => format!("/var/cache/charly/aur/{candy}"),
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
        files: Vec::new(),
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
