//! What a candy's variables and PATH look like in the language of a shell.

use crate::plan::ShellHook;
use crate::text::{Text, Tokens};

/// The folders in which commands find programs on every venue, whatever candies there are.
pub const STANDARD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ShellHook {
    /// Returns the hook in the language that every POSIX shell reads: exports sorted by name, then folders not yet in PATH.
    pub fn posix(&self, tokens: &Tokens) -> String {
        let export =
            |(name, value): (&String, &Text)| format!("export {name}={}\n", posix_quote(&value.resolve(tokens)));
        let append = |folder: &Text| {
            let folder = posix_quote(&folder.resolve(tokens));
            format!("case \":$PATH:\" in *:{folder}:*) ;; *) export PATH=\"$PATH\":{folder} ;; esac\n")
        };
        self.env.iter().map(export).chain(self.path_append.iter().map(append)).collect()
    }

    /// Returns the hook in fish's language.
    pub fn fish(&self, tokens: &Tokens) -> String {
        let export =
            |(name, value): (&String, &Text)| format!("set -gx {name} {}\n", fish_quote(&value.resolve(tokens)));
        let append = |folder: &Text| {
            let folder = fish_quote(&folder.resolve(tokens));
            format!("contains -- {folder} $PATH; or set -gx PATH $PATH {folder}\n")
        };
        self.env.iter().map(export).chain(self.path_append.iter().map(append)).collect()
    }
}

/// Returns what the first line of a script asks for to run it: a program, and what the program is told before the script's path.
///
/// The first line is read here and not left to the kernel, since a script may lie where nothing may be executed.
pub fn asked_interpreter(body: &str) -> Option<impl Iterator<Item = &str>> {
    let line = body.strip_prefix("#!")?.lines().next()?.trim();
    let (program, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    (!program.is_empty()).then(|| [program, argument.trim()].into_iter().filter(|word| !word.is_empty()))
}

fn posix_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn fish_quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn hooks_quote_for_their_shell() {
        let tokens = Tokens { home: "/home/o'x".into(), user: "o".into(), uid: 1, gid: 1 };
        let hook = ShellHook {
            env: BTreeMap::from([("B".into(), Text::new("{{.Home}}/$x")), ("A".into(), Text::new("1"))]),
            path_append: vec![Text::new("{{.Home}}/bin")],
        };
        assert_eq!(
            hook.posix(&tokens),
            "export A='1'\nexport B='/home/o'\\''x/$x'\n\
             case \":$PATH:\" in *:'/home/o'\\''x/bin':*) ;; *) export PATH=\"$PATH\":'/home/o'\\''x/bin' ;; esac\n"
        );
        assert_eq!(
            hook.fish(&tokens),
            "set -gx A '1'\nset -gx B '/home/o\\'x/$x'\n\
             contains -- '/home/o\\'x/bin' $PATH; or set -gx PATH $PATH '/home/o\\'x/bin'\n"
        );
    }
}
