//! Models say what others say of the same weights, and route as their configurations say.

mod batches;
mod converted;
mod disk;
mod dtypes;
mod experts;
mod families;
mod mistakes;
mod models;
mod patched;
mod published;
mod tiny;
