//! From candy files to an InstallPlan: text and a venue's facts in, a plan out.
//!
//! | step | module | what it does |
//! |---|---|---|
//! | read | [`schema`] | YAML text to typed documents, every mistake in one run |
//! | load | [`load`] | a project, what it imports, what the machine adds, the shipped candies |
//! | resolve | [`resolve`] | references to candies in their one order, with the files they copy |
//! | compile | [`mod@compile`] | candies and a venue's facts to an [`InstallPlan`](charly_ir::plan::InstallPlan) |
//! | image | [`image`] | a box's chain and its candies to a plan for an image, and the labels it carries |
//!
//! What is wrong is said as [`diagnostic::Diagnostics`], each with its place in a [`source::Source`], an excerpt and a hint.
//!
//! Invariant: nothing here reads the environment, a home folder or a clock, or writes to a terminal. Loading and resolving
//! read files (and run `git` for candies of other repositories); reading text and compiling are pure.
//!
//! ```
//! use charly_ir::boot::BootMark;
//! use charly_ir::facts::{Facts, Init, Os, PackageManager, User};
//! use charly_plans::compile::{Options, compile};
//! use charly_plans::load::{Settings, Workspace};
//! use charly_plans::resolve::LayerRef;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let settings = Settings { folder: folder.path().to_owned(), ..Settings::default() };
//! let (mut workspace, found) = Workspace::load(&settings);
//! assert!(!found.has_errors(), "{}", found.render(false));
//!
//! let resolved = workspace.resolve(&[LayerRef::parse("hello")?])?;
//! let facts = Facts {
//!     os: Os::parse("ID=debian\nVERSION_ID=13\n"),
//!     arch: "x86_64".into(),
//!     hostname: "venue".into(),
//!     boot: BootMark::default(),
//!     init: Init::Systemd,
//!     package_manager: Some(PackageManager::Apt),
//!     user: User { name: "ann".into(), uid: 1000, gid: 1000, home: "/home/ann".into(), shell: "/bin/sh".into() },
//! };
//! let compiled = compile(&resolved, &facts, &Options::default())?;
//! assert_eq!(compiled.plan.candies[0].name, "hello");
//! # Ok(())
//! # }
//! ```

pub mod compile;
pub mod diagnostic;
pub mod image;
pub mod load;
mod read;
pub mod resolve;
pub mod schema;
pub mod source;
mod spread;
mod template;
mod validate;
mod yaml;

pub use template::candy_template;
pub use validate::{validate_documents, validate_text};
