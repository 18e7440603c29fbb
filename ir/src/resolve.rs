//! Plans without tokens, for venues that are known in full when a plan is compiled: images.

use std::collections::BTreeMap;

use crate::plan::{Action, Builder, Command, Content, Op, Placement, Repo, RepoKey, RepoSource};
use crate::text::{Text, Tokens};

impl Action {
    /// Replaces every token in what the action does.
    #[must_use]
    pub fn resolve(self, tokens: &Tokens) -> Self {
        let text = |text: Text| Text::new(text.resolve(tokens));
        let file = |file: Placement| placement(file, tokens);
        match self {
            Self::RepoChange(Repo { manager, name, source }) => {
                let key = |key: Option<RepoKey>| key.map(|key| RepoKey { path: text(key.path), ..key });
                let source = match source {
                    RepoSource::Written { file: config, key: by } => {
                        RepoSource::Written { file: file(config), key: key(by) }
                    }
                    RepoSource::Fetched { url, path, key: by } => {
                        RepoSource::Fetched { url, path: text(path), key: key(by) }
                    }
                    source @ (RepoSource::Copr { .. } | RepoSource::Package { .. }) => source,
                };
                Self::RepoChange(Repo { manager, name, source })
            }
            Self::Op(op) => Self::Op(match op {
                Op::Command(body) => Op::Command(command(body, tokens)),
                Op::Mkdir { path, mode } => Op::Mkdir { path: text(path), mode },
                Op::Copy(copy) => Op::Copy(file(copy)),
                Op::Write(write) => Op::Write(file(write)),
                Op::Link { path, target } => Op::Link { path: text(path), target: text(target) },
                Op::Download(mut download) => {
                    download.to = text(download.to);
                    download.env = values(download.env, tokens);
                    download.uninstall = texts(&download.uninstall, tokens);
                    Op::Download(download)
                }
                Op::Setcap { path, caps } => Op::Setcap { path: text(path), caps },
            }),
            Self::File(placed) => Self::File(file(placed)),
            Self::ServicePackaged(mut service) => {
                service.drop_in = service.drop_in.map(file);
                Self::ServicePackaged(service)
            }
            Self::ServiceCustom(mut service) => {
                service.file = file(service.file);
                Self::ServiceCustom(service)
            }
            Self::ShellHook(mut hook) => {
                hook.env = values(hook.env, tokens);
                hook.path_append = texts(&hook.path_append, tokens);
                Self::ShellHook(hook)
            }
            Self::ShellSnippet(mut snippet) => {
                snippet.snippet = text(snippet.snippet);
                Self::ShellSnippet(snippet)
            }
            Self::RemovalHook(body) => Self::RemovalHook(command(body, tokens)),
            Self::Builder(builder) => Self::Builder(Builder { to: text(builder.to), ..builder }),
            action @ (Self::SystemPackages(_) | Self::Unsupported { .. } | Self::Reboot) => action,
        }
    }
}

fn placement(file: Placement, tokens: &Tokens) -> Placement {
    let content = match file.content {
        Content::Text(text) => Content::Text(Text::new(text.resolve(tokens))),
        content @ (Content::Blob { .. } | Content::Secret(_)) => content,
    };
    Placement { path: Text::new(file.path.resolve(tokens)), content, ..file }
}

fn command(body: Command, tokens: &Tokens) -> Command {
    Command {
        env: values(body.env, tokens),
        uninstall: texts(&body.uninstall, tokens),
        creates: texts(&body.creates, tokens),
        ..body
    }
}

fn values(values: BTreeMap<String, Text>, tokens: &Tokens) -> BTreeMap<String, Text> {
    values.into_iter().map(|(name, value)| (name, Text::new(value.resolve(tokens)))).collect()
}

fn texts(texts: &[Text], tokens: &Tokens) -> Vec<Text> {
    texts.iter().map(|text| Text::new(text.resolve(tokens))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BuilderKind, CustomService, ShellHook};

    #[test]
    fn no_token_is_left() {
        let tokens = Tokens { home: "/home/ann".into(), user: "ann".into(), uid: 1000, gid: 100 };
        let token = || Text::new("{{.Home}}/{{.User}}");
        let file = || Placement { path: token(), mode: 0o644, content: Content::Text(token()) };
        let env = || BTreeMap::from([("A".to_owned(), token())]);
        let body = || Command {
            body: "{{.Home}} is the body's own".into(),
            env: env(),
            secrets: BTreeMap::new(),
            uninstall: vec![token()],
            creates: vec![token()],
            timeout_s: None,
        };
        for action in [
            Action::Op(Op::Command(body())),
            Action::Op(Op::Mkdir { path: token(), mode: 0o755 }),
            Action::Op(Op::Write(file())),
            Action::Op(Op::Link { path: token(), target: token() }),
            Action::Op(Op::Setcap { path: token(), caps: String::new() }),
            Action::File(file()),
            Action::ServiceCustom(CustomService { unit: "u.service".into(), file: file(), enable: true }),
            Action::ShellHook(ShellHook { env: env(), path_append: vec![token()] }),
            Action::RemovalHook(body()),
            Action::Builder(Builder {
                kind: BuilderKind::Npm,
                inputs: BTreeMap::new(),
                packages: Vec::new(),
                to: token(),
                image: None,
            }),
        ] {
            let resolved = serde_json::to_string(&action.clone().resolve(&tokens)).unwrap();
            assert!(resolved.contains("/home/ann/ann"), "{resolved}");
            let left = resolved.matches("{{.").count();
            // A body is never rewritten.
            assert_eq!(left, usize::from(resolved.contains("the body's own")), "{resolved}");
        }
    }
}
