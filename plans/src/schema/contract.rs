//! What candies offer to and ask of one another.

use crate::read::{Spanned, record};

record! {
    /// Something a candy asks for by name.
    pub struct Requirement {
        /// The name: of the variable, for variables and secrets.
        pub name: Spanned<String>,
        /// What it is for.
        pub description: Option<String>,
        /// The value where nobody gives one.
        pub default: Option<Spanned<String>>,
        /// The key under which a secret store keeps it.
        pub key: Option<Spanned<String>>,
    }
}

record! {
    /// An MCP server offered to other deploys.
    pub struct McpProvide {
        /// Its name.
        pub name: Spanned<String>,
        /// Its address.
        pub url: Spanned<String>,
        /// How it is spoken to, such as `http`.
        pub transport: Option<String>,
    }
}
