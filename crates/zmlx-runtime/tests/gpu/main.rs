//! Schedules and their text: random Programs and those of the catalog, executed on the stand-in and compared with the
//! oracle.

#[path = "../random/case.rs"]
#[allow(dead_code, reason = "shared with the executor's tests")]
mod case;
mod formulas;
mod launch;
mod random;
mod spelling;
#[path = "../standin/mod.rs"]
mod standin;
