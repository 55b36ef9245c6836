//! A disk in memory that loses power and fails on purpose, under SQLite (L3 of docs/reliability.md).
//!
//! [`Disk`] keeps what was synced apart from what was only written, so that [`Disk::photograph`] can tell at any call
//! what a power cut would leave: all that was synced, and any 512-byte sectors of the rest. `vfs` makes SQLite work
//! on it under the name [`VFS`]; a file's first path segment names its disk.
//!
//! Not published. The only place of the workspace with `unsafe` code: SQLite takes a file system as C functions.

mod disk;
mod shm;
mod vfs;

pub use disk::{Chance, Disk, Image, IoFault, Photo};
pub use vfs::{VFS, register};
