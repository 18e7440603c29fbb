//! One connection to a machine, and what is done over it.
