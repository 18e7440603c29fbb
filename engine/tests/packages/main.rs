//! The package managers for real, each in a root of its own.
//!
//! apt installs from Debian into a root made by mmdebstrap; dnf and pacman install small home-made packages from a
//! repository beside their root. All of it needs root's rights and the tools; a test that lacks them says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is not run says why")]
#![expect(clippy::unwrap_used, reason = "what the tests share fails as they do")]

mod apt;
mod dnf;
mod pacman;
mod venue;
