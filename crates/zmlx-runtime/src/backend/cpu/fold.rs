//! Custom monoids: an accumulator a lane, combined at the end of the row.

use super::{
    bank::{Place, with_lane},
    exec::{Domain, Env, Local, OutLane},
    step::{FoldStep, Step},
};
use crate::Error;

/// Fills the lanes with the initial value.
pub fn start(local: &mut Local, f: &FoldStep) {
    with_lane!(f.dtype, T => {
        let mut lanes = local.tile.take::<T>(f.acc);
        lanes.fill(<T as OutLane>::from_f64(f.init));
        local.tile.put(f.acc, lanes);
    });
}

/// Takes the lanes of a tile in.
pub fn update(env: &mut Env<'_, '_>, f: &FoldStep, d: Domain) -> Result<(), Error> {
    env.run(&f.update, d)?;
    env.run(&[Step::Copy { dtype: f.dtype, dst: Place::Tile(f.acc), src: f.result }], d)
}

/// Combines the lanes of one row as a tree of a shape that depends on their number alone.
pub fn finish(env: &mut Env<'_, '_>, f: &FoldStep, row: usize, lanes: usize) -> Result<(), Error> {
    let mut n = lanes;
    while n > 1 {
        let half = n / 2;
        with_lane!(f.dtype, T => {
            for (place, from) in f.operands.iter().zip([0, n - half]) {
                let Place::Tile(reg) = *place else { continue };
                let mut operand = env.local.tile.take::<T>(reg);
                operand[..half].copy_from_slice(&env.local.tile.get::<T>(f.acc)[from..from + half]);
                env.local.tile.put(reg, operand);
            }
        });
        let d = Domain::Tile { row, rows: 1, col: 0, width: half };
        env.run(&f.combine, d)?;
        env.run(&[Step::Copy { dtype: f.dtype, dst: Place::Tile(f.acc), src: f.combined }], d)?;
        n -= half;
    }
    with_lane!(f.dtype, T => {
        let v = env.local.tile.get::<T>(f.acc)[0];
        if let Place::Row(reg) = f.out {
            let mut out = env.local.rows.take::<T>(reg);
            out[row] = v;
            env.local.rows.put(reg, out);
        }
    });
    Ok(())
}
