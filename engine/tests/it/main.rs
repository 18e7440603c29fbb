//! The engine on temporary roots: what it applies it can take away, wherever it is cut off.

mod basics;
mod crash;
mod kit;
mod laws;
