//! Schedules and their text: random Programs and those of the catalog, executed on the stand-in and compared with the
//! oracle.

mod candidates;
#[path = "../random/case.rs"]
#[allow(dead_code, reason = "shared with the executor's tests")]
mod case;
mod cluster;
mod flag;
mod formulas;
mod launch;
mod online;
mod portable;
mod random;
mod raw;
mod spelling;
#[path = "../standin/mod.rs"]
mod standin;
