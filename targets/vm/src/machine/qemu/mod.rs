//! QEMU, by its command line and its control socket.
pub mod line;
pub mod qmp;
