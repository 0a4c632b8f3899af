//! Shapes and strides to rows × cols: candle's broadcasting, merged axes, the extent of each input, and back.
//!
//! A pointwise formula merges whatever its inputs run through in one stride: same-shaped contiguous inputs become one
//! row. A formula of rows keeps its last axis as the columns and merges the others. What an input depends on follows
//! from its dimensions, not its strides: an expanded tensor is a full one whose memory repeats.

use candle_core::{Layout, Shape};
use smallvec::SmallVec;
use zmlx_ir::{
    Extent,
    program::{Stored, Table},
};

/// Dimensions or strides; most tensors have no more than this many.
pub type Dims = SmallVec<[usize; 6]>;

/// An input, as far as geometry goes.
#[derive(Clone, Copy, Debug)]
pub struct Shaped<'a> {
    pub dims: &'a [usize],
    pub strides: &'a [usize],
    pub offset: usize,
    pub contiguous: bool,
    /// It has one value a row: its shape lacks the last axis.
    pub row: bool,
}

impl<'a> Shaped<'a> {
    /// A tensor that lies so.
    pub fn of(layout: &'a Layout, row: bool) -> Shaped<'a> {
        let (dims, strides, offset) = (layout.dims(), layout.stride(), layout.start_offset());
        Shaped { dims, strides, offset, contiguous: layout.is_contiguous(), row }
    }
}

/// How a table is read: the shape of the rows that an index finds, and strides that are 0 along them.
#[derive(Clone, Debug, Default)]
pub struct Read {
    pub dims: Dims,
    pub strides: Dims,
    pub table: Option<Table>,
}

impl<'a> Shaped<'a> {
    /// Its rank with the axis that it lacks.
    fn rank(&self) -> usize {
        self.dims.len() + usize::from(self.row)
    }

    /// As it is read, if that is by rows of a table.
    pub fn of_rows(self, read: Option<&'a Read>) -> Shaped<'a>
    where
        Self: 'a,
    {
        match read.filter(|read| read.table.is_some()) {
            None => self,
            Some(Read { dims, strides, .. }) => Shaped { dims, strides, contiguous: false, ..self },
        }
    }

    /// Size and stride along axis `a` of `rank`, aligned at the right; None where it has no such axis.
    fn axis(&self, a: usize, rank: usize) -> Option<(usize, usize)> {
        let own = (a + self.rank()).checked_sub(rank)?;
        self.dims.get(own).map(|d| (*d, self.strides[own]))
    }
}

/// How an input lies over rows × cols.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub offset: usize,
    pub row_strides: Dims,
    pub col_stride: usize,
    /// What it depends on, over the merged axes.
    pub extent: Extent,
    /// What it depends on where the last axis alone makes the columns: what dtypes of results follow.
    pub named: Extent,
    /// It has some of the row axes and lacks others: its gradient is summed once more.
    pub partial: bool,
    /// It is a table.
    pub table: Option<Table>,
}

impl Place {
    /// Depends on the rows, be they all alike.
    pub fn run_with_rows(&mut self) {
        self.partial |= !self.extent.has_rows();
        self.extent = extent(true, self.extent.has_cols());
        self.named = extent(true, self.named.has_cols());
    }

    /// Elements that lie flat, as columns of one row.
    pub fn flat(offset: usize) -> Place {
        let (row_strides, extent) = (Dims::new(), Extent::ELEM);
        Place { offset, row_strides, col_stride: 1, extent, named: extent, partial: false, table: None }
    }
}

/// Rows × cols of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// The broadcast shape.
    pub shape: Dims,
    /// Sizes that the rows run over.
    pub row_dims: Dims,
    pub cols: usize,
    pub places: SmallVec<[Place; 4]>,
    /// The axes of `shape` from here on make the columns.
    first_col: usize,
}

/// Shapes that do not broadcast: the input to blame, the one that it does not fit, and the shape it should have (if
/// its rank is no larger).
#[derive(Clone, Debug, PartialEq)]
pub struct Misfit {
    pub input: usize,
    pub with: usize,
    pub expected: Option<Vec<usize>>,
}

/// Lays inputs over rows × cols. `rows`: the formula has functions of a row, so that the last axis makes the columns.
pub fn lay_out(inputs: &[Shaped<'_>], rows: bool) -> Result<Geometry, Misfit> {
    match all_alike(inputs, rows) {
        Some(geometry) => Ok(geometry),
        None => lay_out_any(inputs, rows),
    }
}

/// The common case at little cost: every input has the same shape and lies contiguously.
fn all_alike(inputs: &[Shaped<'_>], rows: bool) -> Option<Geometry> {
    let dims = inputs.first()?.dims;
    if inputs.iter().any(|i| i.row || !i.contiguous || i.dims != dims) {
        return None;
    }
    let first_col = if rows { dims.len().saturating_sub(1) } else { 0 };
    let cols: usize = dims[first_col..].iter().product();
    let mut row_dims = Dims::new();
    if first_col > 0 && dims[..first_col] != [1] {
        row_dims.push(dims[..first_col].iter().product());
    }
    let place = |i: &Shaped<'_>| Place {
        offset: i.offset,
        row_strides: row_dims.iter().map(|_| cols).collect(),
        col_stride: 1,
        extent: Extent::ELEM,
        named: Extent::ELEM,
        partial: false,
        table: None,
    };
    let places = inputs.iter().map(place).collect();
    Some(Geometry { shape: Dims::from_slice(dims), row_dims, cols, places, first_col })
}

/// Neighbouring axes that every input runs through in one stride, or lacks.
struct Group {
    first: usize,
    size: usize,
    /// Bit k: input k has it.
    has: u64,
    strides: SmallVec<[usize; 4]>,
}

fn lay_out_any(inputs: &[Shaped<'_>], rows: bool) -> Result<Geometry, Misfit> {
    let rank = inputs.iter().map(Shaped::rank).max().unwrap_or(0);
    let shape = broadcast(inputs, rank).ok_or_else(|| misfit(inputs, rank))?;
    let group = |a: usize| -> Group {
        let mut has = 0;
        let mut strides = SmallVec::new();
        for (k, i) in inputs.iter().enumerate() {
            let own = i.axis(a, rank).filter(|(d, _)| *d == shape[a]);
            has |= u64::from(own.is_some()) << k;
            strides.push(own.filter(|(d, _)| *d != 1).map_or(0, |(_, s)| s));
        }
        Group { first: a, size: shape[a], has, strides }
    };
    let mut groups: SmallVec<[Group; 6]> = SmallVec::new();
    let merged = if rows { rank.saturating_sub(1) } else { rank };
    for a in (0..merged).filter(|a| shape[*a] != 1) {
        let next = group(a);
        match groups.last_mut() {
            Some(g) if g.has == next.has && g.strides.iter().zip(&next.strides).all(|(o, i)| *o == i * next.size) => {
                (g.size, g.strides) = (g.size * next.size, next.strides);
            }
            _ => groups.push(next),
        }
    }
    let last = (rank > 0).then(|| group(rank - 1));
    let last_has = last.as_ref().map(|g| g.has);
    let named = |k: usize| {
        let has_cols = last_has.is_none_or(|has| has >> k & 1 == 1);
        let mut axes = (0..rank.saturating_sub(1)).filter(|a| shape[*a] != 1).peekable();
        // where all rows are one, what has the axes at all depends on them: a batch of one is like any other
        let has_rows = match axes.peek() {
            None => inputs[k].rank() == rank,
            Some(_) => axes.any(|a| inputs[k].axis(a, rank).is_some_and(|(d, _)| d == shape[a])),
        };
        extent(has_rows, has_cols)
    };
    let columns = if rows { last } else { groups.pop() };
    let place = |k: usize, i: &Shaped<'_>| {
        let named = named(k);
        let has_cols = columns.as_ref().is_none_or(|g| g.has >> k & 1 == 1);
        let has = |g: &Group| g.has >> k & 1 == 1;
        let extent = match groups.is_empty() {
            _ if rows => named,
            true => extent(has_cols, has_cols),
            false => extent(groups.iter().any(has), has_cols),
        };
        Place {
            offset: i.offset,
            row_strides: groups.iter().map(|g| g.strides[k]).collect(),
            col_stride: columns.as_ref().map_or(0, |g| g.strides[k]),
            partial: groups.iter().any(has) && !groups.iter().all(has),
            extent,
            named,
            table: None,
        }
    };
    Ok(Geometry {
        places: inputs.iter().enumerate().map(|(k, i)| place(k, i)).collect(),
        row_dims: groups.iter().map(|g| g.size).collect(),
        cols: columns.as_ref().map_or(1, |g| g.size),
        first_col: columns.as_ref().map_or(rank, |g| g.first),
        shape,
    })
}

fn extent(has_rows: bool, has_cols: bool) -> Extent {
    match (has_rows, has_cols) {
        (true, true) => Extent::ELEM,
        (true, false) => Extent::ROW,
        (false, true) => Extent::COL,
        (false, false) => Extent::UNIFORM,
    }
}

fn broadcast(inputs: &[Shaped<'_>], rank: usize) -> Option<Dims> {
    let mut shape = Dims::from_elem(1, rank);
    for i in inputs {
        for (a, full) in shape.iter_mut().enumerate() {
            match i.axis(a, rank) {
                Some((d, _)) if *full == 1 => *full = d,
                Some((d, _)) if d != 1 && d != *full => return None,
                _ => {}
            }
        }
    }
    Some(shape)
}

/// Who is to blame: the first input, largest rank first, that does not fit those before it.
fn misfit(inputs: &[Shaped<'_>], rank: usize) -> Misfit {
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|k| std::cmp::Reverse(inputs[*k].rank()));
    let mut shape: Vec<(usize, usize)> = vec![(1, order[0]); rank];
    for &k in &order {
        let mut with = None;
        for (a, (full, owner)) in shape.iter_mut().enumerate() {
            match inputs[k].axis(a, rank) {
                Some((d, _)) if *full == 1 => (*full, *owner) = (d, k),
                Some((d, _)) if d != 1 && d != *full => with = Some(*owner),
                _ => {}
            }
        }
        if let Some(with) = with {
            let first = rank - inputs[k].rank();
            let own: Vec<usize> = shape[first..].iter().map(|(d, _)| *d).collect();
            let expected = &own[..inputs[k].dims.len()];
            return Misfit { input: k, with, expected: Some(expected.to_vec()) };
        }
    }
    Misfit { input: order[0], with: order[0], expected: None }
}

impl Geometry {
    /// Shape of a result.
    pub fn shape_of(&self, o: Stored) -> Shape {
        match (o.extent == Extent::ROW, o.stacked) {
            (true, false) => Shape::from(self.row_shape()),
            (true, true) => Shape::from([self.row_shape(), &[o.width]].concat()),
            (false, true) => Shape::from([self.row_shape(), &[o.width * self.cols]].concat()),
            (false, false) => Shape::from(&self.shape[..]),
        }
    }

    /// The shape of a Row result: without the last axis.
    pub fn row_shape(&self) -> &[usize] {
        &self.shape[..self.shape.len().saturating_sub(1)]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.row_dims.iter().product()
    }

    /// The shape, with the axes that an extent has in full and the others 1: that of a gradient.
    pub fn dims_of(&self, e: Extent) -> Vec<usize> {
        let has = |a: usize| if a < self.first_col { e.has_rows() } else { e.has_cols() };
        self.shape.iter().enumerate().map(|(a, d)| if has(a) { *d } else { 1 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strides(dims: &[usize]) -> Vec<usize> {
        (0..dims.len()).map(|a| dims[a + 1..].iter().product()).collect()
    }

    fn lay(inputs: &[&[usize]], rows: bool) -> Geometry {
        let all: Vec<Vec<usize>> = inputs.iter().map(|d| strides(d)).collect();
        let shaped: Vec<_> = inputs.iter().zip(&all).map(|(d, s)| shaped(d, s)).collect();
        lay_out(&shaped, rows).expect("broadcasts")
    }

    fn shaped<'a>(dims: &'a [usize], strides: &'a [usize]) -> Shaped<'a> {
        Shaped { dims, strides, offset: 0, contiguous: true, row: false }
    }

    fn extents(g: &Geometry) -> Vec<&'static str> {
        g.places.iter().map(|p| p.extent.name()).collect()
    }

    #[test]
    fn same_shapes_merge_into_one_row() {
        let g = lay(&[&[2, 3, 4], &[2, 3, 4]], false);
        assert_eq!((&g.row_dims[..], g.cols), (&[][..], 24));
        assert_eq!(extents(&g), ["elem", "elem"]);
        let g = lay(&[&[2, 3, 4]], true);
        assert_eq!((&g.row_dims[..], g.cols, g.row_shape()), (&[6][..], 4, &[2, 3][..]));
    }

    #[test]
    fn a_bias_is_col_a_column_is_row_and_one_element_is_uniform() {
        for rows in [false, true] {
            let g = lay(&[&[2, 3, 4], &[4], &[2, 3, 1], &[], &[1, 1]], rows);
            assert_eq!((&g.row_dims[..], g.cols), (&[6][..], 4));
            assert_eq!(extents(&g), ["elem", "col", "row", "uniform", "uniform"]);
        }
    }

    #[test]
    fn a_bias_over_two_axes_is_col_of_both() {
        let g = lay(&[&[2, 3, 4], &[3, 4]], false);
        assert_eq!((&g.row_dims[..], g.cols), (&[2][..], 12));
        assert_eq!(extents(&g), ["elem", "col"]);
        assert_eq!(g.dims_of(g.places[1].extent), [1, 3, 4]);
    }

    #[test]
    fn a_middle_broadcast_is_partial() {
        let g = lay(&[&[2, 3, 4], &[2, 1, 4]], false);
        assert_eq!(&g.row_dims[..], [2, 3]);
        assert_eq!(extents(&g), ["elem", "elem"]);
        assert!(g.places[1].partial && !g.places[0].partial);
        assert_eq!(&g.places[1].row_strides[..], [4, 0]);
        let g = lay(&[&[2, 3, 4], &[2, 1, 1]], true);
        assert_eq!((extents(&g)[1], g.places[1].partial, g.dims_of(Extent::ROW)), ("row", true, vec![2, 3, 1]));
    }

    #[test]
    fn a_batch_of_one_has_the_extents_of_any_batch() {
        for batch in [1, 5] {
            let g = lay(&[&[64], &[batch, 64], &[batch, 1]], true);
            assert_eq!(extents(&g), ["col", "elem", "row"]);
            let g = lay(&[&[64], &[batch, 64]], false);
            assert_eq!(g.places.iter().map(|p| p.named).collect::<Vec<_>>(), [Extent::COL, Extent::ELEM]);
        }
    }

    #[test]
    fn rank_zero_and_empty_tensors_have_a_geometry() {
        for rows in [false, true] {
            let g = lay(&[&[], &[]], rows);
            assert_eq!((g.rows(), g.cols, g.shape.len(), g.row_shape().len()), (1, 1, 0, 0));
            assert_eq!(extents(&g), ["elem", "elem"]);
            let g = lay(&[&[0, 4], &[4]], rows);
            assert_eq!((g.rows() * g.cols, extents(&g)), (0, vec!["elem", "col"]));
            let g = lay(&[&[4, 0], &[4, 1]], rows);
            assert_eq!((g.rows() * g.cols, extents(&g)[1]), (0, "row"));
        }
        assert_eq!(lay(&[&[1], &[]], true).cols, 1);
    }

    #[test]
    fn a_declared_row_lacks_the_last_axis() {
        let (x, t) = (strides(&[2, 3, 4]), strides(&[2, 3]));
        let t = Shaped { row: true, ..shaped(&[2, 3], &t) };
        let g = lay_out(&[shaped(&[2, 3, 4], &x), t], true).expect("broadcasts");
        assert_eq!((extents(&g), &g.row_dims[..]), (vec!["elem", "row"], &[6][..]));
        let alone = lay_out(&[t], true).expect("alone");
        assert_eq!((&alone.shape[..], extents(&alone), alone.cols), (&[2, 3, 1][..], vec!["row"], 1));
    }

    #[test]
    fn strides_that_do_not_run_on_stay_apart() {
        let (x, t) = (strides(&[3, 2]), [1, 3]);
        let g = lay_out(&[shaped(&[3, 2], &x), Shaped { contiguous: false, ..shaped(&[3, 2], &t) }], false);
        let g = g.expect("broadcasts");
        assert_eq!((&g.row_dims[..], g.cols), (&[3][..], 2));
        assert_eq!((&g.places[1].row_strides[..], g.places[1].col_stride), (&[1][..], 3));
    }

    #[test]
    fn of_shapes_that_do_not_broadcast_the_smaller_is_to_blame() {
        let (x, w) = (strides(&[4, 128]), strides(&[64]));
        for (inputs, blamed) in
            [([shaped(&[4, 128], &x), shaped(&[64], &w)], 1), ([shaped(&[64], &w), shaped(&[4, 128], &x)], 0)]
        {
            let misfit = lay_out(&inputs, true).expect_err("64 against 128");
            assert_eq!(misfit, Misfit { input: blamed, with: 1 - blamed, expected: Some(vec![128]) });
        }
    }
}
