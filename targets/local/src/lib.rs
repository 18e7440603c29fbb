//! The target for this machine, and sudo.
