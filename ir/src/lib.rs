//! What crosses the wire: the InstallPlan, venue facts, frames and events.
