//! What a reference means, from where it stands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::candy::{LoadedCandy, Origin, load_candy, shown_from, unreadable};
use super::folder::Folder;
use super::project::ScopeId;
use super::workspace::{ROOT, Workspace};
use crate::diagnostic::{Diagnostic, Diagnostics, suggestion};
use crate::resolve::git;
use crate::schema::{Reference, Remote};

impl Workspace {
    /// Finds a candy as one project names it.
    pub(crate) fn find(
        &mut self,
        reference: &Reference,
        from: Option<&LoadedCandy>,
        found: &mut Diagnostics,
    ) -> Result<Arc<LoadedCandy>, Diagnostic> {
        let scope = from.map_or(ROOT, |candy| candy.scope);
        match reference {
            Reference::Name(name) => {
                self.by_name(name.as_str(), scope).cloned().ok_or_else(|| self.unknown_name(name.as_str(), scope))
            }
            Reference::Path(path) => {
                let base = match from.map(|candy| (&candy.folder, scope)) {
                    None => self.settings.folder.clone(),
                    Some((Some(Folder::Disk(folder)), _)) => folder.clone(),
                    Some((None, scope)) => self.scopes[scope.0].root.clone(),
                    Some((Some(Folder::Shipped(_)), _)) => {
                        return Err(Diagnostic::error(format!("a shipped candy cannot name the path `{path}`")));
                    }
                };
                let origin = from.map_or(Origin::Project, |candy| candy.origin.clone());
                self.by_path(&base.join(path), origin, scope, found)
            }
            Reference::Remote(remote) => {
                let checkout = self.checkout(remote)?;
                let origin = Origin::Repository { url: remote.url(), commit: checkout.commit };
                let scope = self.load_scope(&checkout.folder, &origin, found);
                if remote.folder.is_empty()
                    && let [candy] = self.scopes[scope.0].candies.values().collect::<Vec<_>>().as_slice()
                {
                    return Ok(Arc::clone(candy));
                }
                self.by_path(&checkout.folder.join(&remote.folder), origin, scope, found)
            }
        }
    }

    fn by_name(&self, name: &str, scope: ScopeId) -> Option<&Arc<LoadedCandy>> {
        let own = &self.scopes[scope.0];
        if let Some(candy) = own.candies.get(name) {
            return Some(candy);
        }
        let imported = own.imports.iter().find_map(|(alias, import)| {
            let name = match alias {
                Some(alias) => name.strip_prefix(alias.as_str())?.strip_prefix('.')?,
                None => name,
            };
            self.scopes[import.0].candies.get(name)
        });
        imported.or_else(|| self.shipped.get(name))
    }

    fn unknown_name(&self, name: &str, scope: ScopeId) -> Diagnostic {
        let own = &self.scopes[scope.0];
        let imported = own.imports.iter().flat_map(|(_, import)| self.scopes[import.0].candies.keys());
        let known = own.candies.keys().chain(imported).map(String::as_str).chain(self.shipped.keys().copied());
        let hint = suggestion(name, known).unwrap_or_else(|| {
            "name a candy of the project, a path such as `./mine`, or `host/org/repo[/candy/x][@ref]`".to_owned()
        });
        Diagnostic::error(format!("no candy is named `{name}`")).hint(hint)
    }

    fn by_path(
        &mut self,
        path: &Path,
        origin: Origin,
        scope: ScopeId,
        found: &mut Diagnostics,
    ) -> Result<Arc<LoadedCandy>, Diagnostic> {
        let path: &Path = &path.components().collect::<PathBuf>();
        let shown = shown_from(path, &self.settings.folder);
        let real = path.canonicalize().map_err(|error| unreadable(&shown, &error))?;
        if let Origin::Repository { url, .. } = &origin {
            // Somebody else's candy has no business in the folders of this machine.
            let root = self.scopes[scope.0].root.canonicalize().map_err(|error| unreadable(&shown, &error))?;
            if !real.starts_with(root) {
                return Err(Diagnostic::error(format!("the path leads out of the repository `{url}`")));
            }
        }
        let same = |candy: &&Arc<LoadedCandy>| matches!(&candy.folder, Some(Folder::Disk(folder)) if folder.canonicalize().is_ok_and(|folder| folder == real));
        if let Some(candy) = self.scopes[scope.0].candies.values().find(same) {
            return Ok(Arc::clone(candy));
        }
        let shown = shown_from(&path.join("charly.yml"), &self.settings.folder);
        let (candy, findings) = load_candy(Folder::Disk(real), &shown, origin, scope);
        let broken = findings.has_errors();
        if let Some(missing) = findings.iter().find(|finding| finding.place.is_none()).filter(|_| broken) {
            // There is no document: that is told where it was asked for.
            return Err(missing.clone());
        }
        found.extend(findings);
        match candy {
            Some(candy) if !broken => Ok(Arc::new(candy)),
            _ => Err(Diagnostic::error(format!("`{shown}` cannot be used"))),
        }
    }

    /// Gets a repository's files.
    pub(super) fn checkout(&self, remote: &Remote) -> Result<git::Checkout, Diagnostic> {
        git::checkout(remote, &self.settings).map_err(|error| {
            let finding = Diagnostic::error(format!("cannot get `{remote}`: {error}"));
            match error.hint() {
                Some(hint) => finding.hint(hint),
                None => finding,
            }
        })
    }
}
