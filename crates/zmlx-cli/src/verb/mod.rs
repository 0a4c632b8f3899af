//! One file a verb. The list is written by `cargo xtask index` from the folder.

// index: begin
pub mod bench;
pub mod chat;
pub mod convert;
pub mod doctor;
pub mod eval;
pub mod generate;
pub mod inspect;
pub mod kernels;
pub mod show;
pub mod tune;
pub mod verify;
// index: end
