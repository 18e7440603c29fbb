//! The boxes that builders run in.

use charly_ir::plan::BuilderKind;

use super::{Base, BoxLayer};
use crate::diagnostic::Diagnostics;
use crate::schema;
use crate::source::{Place, Source};

const BUILDERS: &str = include_str!("builders.yml");

/// Returns the box that a builder runs in, made of a release such as `debian-13`; nothing where there is none.
pub fn builder_box(kind: BuilderKind, release: &str) -> Result<Option<BoxLayer>, Diagnostics> {
    let source = Source::from_bytes("builders.yml", BUILDERS.into()).map_err(|finding| Diagnostics::from(*finding))?;
    let (project, found) = schema::parse_project(&source);
    let Some(project) = project else { return Err(found) };
    let declared = project.box_.iter().find(|(name, _)| name.value == kind.to_string());
    Ok(declared.map(|(name, declared)| {
        let mut spec = declared.value.clone();
        spec.image = Some(format!("localhost/charly-builder-{kind}"));
        spec.tag = Some(release.to_owned());
        let place = Place { source: source.clone(), span: name.span };
        BoxLayer { name: format!("builder-{kind}"), spec, place, base: Base::Bootstrap(release.to_owned()) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builder_but_one_has_a_box() {
        for (kind, has) in [
            (BuilderKind::Npm, true),
            (BuilderKind::Cargo, true),
            (BuilderKind::Uv, true),
            (BuilderKind::Pixi, true),
            // Nothing here makes an Arch from its packages.
            (BuilderKind::Aur, false),
        ] {
            let found = builder_box(kind, "debian-13").unwrap();
            assert_eq!(found.map(|found| found.base), has.then(|| Base::Bootstrap("debian-13".into())), "{kind}");
        }
    }
}
