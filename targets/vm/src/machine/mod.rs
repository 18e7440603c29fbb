//! Virtual machines: their disks, their first boot, their life.
