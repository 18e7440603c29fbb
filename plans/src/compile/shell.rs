//! Environment and shell start-up.

use charly_ir::Text;
use charly_ir::plan::{Action, Content, Phase, Placement, Scope, Shell, ShellHook, ShellSnippet};

use super::candy::Context;
use super::expand;
use crate::schema::{ShellBlock, Spanned};

/// Compiles the candy's variables, PATH and snippets.
pub(super) fn compile(cx: &mut Context<'_>) {
    let candy = cx.candy;
    let mut env = std::collections::BTreeMap::new();
    for (name, value) in candy.env.iter() {
        env.insert(name.value.clone(), expand::home_in_value(value));
    }
    let mut path_append = cx.paths(&candy.path_append);
    for folder in std::mem::take(&mut cx.built) {
        if !path_append.contains(&folder) {
            path_append.push(folder);
        }
    }
    if !env.is_empty() || !path_append.is_empty() {
        let title = match (env.len(), path_append.len()) {
            (0, _) => "extend PATH".to_owned(),
            (_, 0) => format!("export {}", env.keys().cloned().collect::<Vec<_>>().join(", ")),
            _ => format!("export {} and extend PATH", env.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        let action = Action::ShellHook(ShellHook { env, path_append });
        cx.add("env", &title, Scope::UserProfile, None, Phase::Shell, action);
    }
    let Some(init) = &candy.shell else { return };
    // The generic snippet is for shells that tools know by name; `sh` gets only what is written for it.
    let own = [
        (Shell::Bash, "bash", init.bash.as_ref()),
        (Shell::Zsh, "zsh", init.zsh.as_ref()),
        (Shell::Fish, "fish", init.fish.as_ref()),
        (Shell::Sh, "sh", init.sh.as_ref()),
    ];
    let generic = ShellBlock {
        init: init.init.clone(),
        path_append: init.path_append.clone(),
        path: init.path.clone(),
        priority: init.priority,
    };
    for (shell, name, block) in own {
        match block {
            Some(block) => compile_block(cx, shell, name, block, init.priority),
            None if shell != Shell::Sh => compile_block(cx, shell, name, &generic, None),
            None => {}
        }
    }
}

fn compile_block(cx: &mut Context<'_>, shell: Shell, name: &str, block: &ShellBlock, priority: Option<i32>) {
    let mut lines = Vec::new();
    for path in cx.paths(&block.path_append) {
        // A token becomes a path on the venue; until then the quotes go around it.
        let quoted = path.as_str().replace('\'', if shell == Shell::Fish { "\\'" } else { "'\\''" });
        lines.push(match shell {
            Shell::Fish => format!("fish_add_path --append --path '{quoted}'"),
            Shell::Bash | Shell::Zsh | Shell::Sh => format!("export PATH=\"$PATH\":'{quoted}'"),
        });
    }
    if let Some(init) = &block.init {
        lines.push(init.replace("${SHELL_NAME}", name).trim_end().to_owned());
    }
    if lines.is_empty() {
        return;
    }
    let snippet = Text::new(lines.join("\n") + "\n");
    let title = format!("set up {name}");
    if let Some(path) = &block.path {
        place(cx, path, name, snippet, &title);
    } else {
        let priority = block.priority.or(priority).unwrap_or_default();
        let action = Action::ShellSnippet(ShellSnippet { shell, snippet, priority });
        cx.add(&format!("shell:{name}"), &title, Scope::UserProfile, None, Phase::Shell, action);
    }
}

/// Places a snippet as a file of its own, where its author says so.
fn place(cx: &mut Context<'_>, path: &Spanned<String>, name: &str, snippet: Text, title: &str) {
    let named = Spanned::new(path.replace("${SHELL_NAME}", name), path.span);
    let Some(path) = cx.path(&named) else { return };
    let scope = if path.is_below_home() { Scope::User } else { Scope::System };
    let action = Action::File(Placement { path, mode: 0o644, content: Content::Text(snippet) });
    cx.add(&format!("shell:{name}"), title, scope, None, Phase::Shell, action);
}
