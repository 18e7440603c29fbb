//! What shells run when they start.

use crate::read::{Spanned, record};

record! {
    /// What shells run when they start. A shell's own block wins whole.
    pub struct ShellInit {
        /// A snippet; `${SHELL_NAME}` is the shell's name.
        pub init: Option<Spanned<String>>,
        /// Folders appended to PATH.
        pub path_append: Vec<Spanned<String>>,
        /// The file that the snippet goes to instead of the usual one.
        pub path: Option<Spanned<String>>,
        /// Carried: snippets stand in the order of their candies.
        pub priority: Option<i32>,
        /// For bash.
        pub bash: Option<ShellBlock>,
        /// For zsh.
        pub zsh: Option<ShellBlock>,
        /// For fish.
        pub fish: Option<ShellBlock>,
        /// For other POSIX shells.
        pub sh: Option<ShellBlock>,
    }
}

record! {
    /// What one shell runs when it starts.
    pub struct ShellBlock {
        /// A snippet, in the shell's language.
        pub init: Option<Spanned<String>>,
        /// Folders appended to PATH.
        pub path_append: Vec<Spanned<String>>,
        /// The file that the snippet goes to instead of the usual one.
        pub path: Option<Spanned<String>>,
        /// Carried: snippets stand in the order of their candies.
        pub priority: Option<i32>,
    }
}
