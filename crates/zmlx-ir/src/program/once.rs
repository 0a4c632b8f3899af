//! Splitting: what needs to be computed only once a launch goes into a Program of its own.
//!
//! In `x * softmax(w)`, with one `w` for all rows, the softmax depends on no row but on reductions along one. A driver
//! that runs over rows would compute it again for each, and what sums over the rows could not read it at all. So such
//! values become the outputs of a first Program, which runs on one row, and inputs of the rest.

use super::*;

/// A Program in two parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Runs first, on one row. Its outputs are of extent Row (one value) or Elem.
    pub once: Program,
    /// Which inputs of the whole are those of `once`.
    pub slots: Vec<usize>,
    /// The last uniform of `once` is the number of rows of the launch.
    pub reads_rows: bool,
    /// Runs second; its last inputs are the outputs of `once`, with extent Uniform or Col.
    pub rest: Program,
}

impl Program {
    /// Splits off what depends on no row but on a reduction or scan, if there is any.
    pub fn split(&self) -> Option<Split> {
        let live = self.live();
        let once = self.depends_on_a_reduction_and_no_row();
        let mut read = vec![false; self.nodes.len()];
        for (node, _) in self.nodes.iter().zip(live.iter().zip(&once)).filter(|(_, (live, once))| **live && !**once) {
            node.args.iter().for_each(|a| read[a.index()] = true);
        }
        self.outputs.iter().for_each(|o| read[o.node.index()] = true);
        let shared: Vec<Id> = self.ids().filter(|i| once[i.index()] && read[i.index()]).collect();
        if shared.is_empty() {
            return None;
        }
        let (once, slots, reads_rows) = self.first_part(&shared);
        Some(Split { once, slots, reads_rows, rest: self.second_part(&shared) })
    }

    /// Cut at `shared`: a first Program of the outputs that have rows and then of `shared`, and a second one of the other
    /// outputs, whose last inputs are the values of `shared`.
    pub(crate) fn split_at(&self, shared: &[Id]) -> (Program, Program) {
        let with = |rows: bool| self.outputs.iter().filter(move |o| o.extent.has_rows() == rows).cloned();
        let made = shared.iter().map(|id| {
            let Node { dtype, extent, .. } = *self.node(*id);
            Output { name: format!("row_{}", id.0), node: *id, dtype, extent, column: None, woven: false }
        });
        let first = Program { outputs: with(true).chain(made).collect(), ..self.clone() }.compact();
        let second = Program { outputs: with(false).collect(), ..self.clone() }.second_part(shared);
        (first, second)
    }

    /// Cut at `values`: a first Program of these alone, and the whole with them as its last inputs.
    pub(crate) fn cut(&self, values: &[Id]) -> (Program, Program) {
        let made = values.iter().map(|id| {
            let Node { dtype, extent, .. } = *self.node(*id);
            Output { name: format!("once_{}", id.0), node: *id, dtype, extent, column: None, woven: false }
        });
        let first = Program { outputs: made.collect(), ..self.clone() }.compact();
        (first, self.second_part(values))
    }

    fn depends_on_a_reduction_and_no_row(&self) -> Vec<bool> {
        let mut once = vec![false; self.nodes.len()];
        // sums over the rows and what is made of them
        let mut late = vec![false; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            let from = |list: &[bool]| node.args.iter().any(|a| list[a.index()]);
            late[i] = from(&late) || matches!(node.kind, Kind::Reduce(_, Over::Rows | Over::All));
            let reduces = matches!(node.kind, Kind::Reduce(..) | Kind::Fold(_) | Kind::Scan(_));
            once[i] = !late[i] && !node.extent.has_rows() && (reduces || from(&once));
        }
        once
    }

    /// What `shared` is made of, with the slots of its inputs, and whether it has the number of rows as a uniform.
    fn first_part(&self, shared: &[Id]) -> (Program, Vec<usize>, bool) {
        let outputs = shared.iter().map(|id| {
            let Node { dtype, extent, .. } = *self.node(*id);
            Output {
                name: format!("once_{}", id.0),
                node: *id,
                dtype,
                extent: extent.union(Extent::ROW),
                column: None,
                woven: false,
            }
        });
        let whole = Program { outputs: outputs.collect(), ..self.clone() };
        let live = whole.live();
        let mut p = Program { inputs: vec![], nodes: vec![], memo: HashMap::new(), ..whole };
        let (mut slots, mut reads_rows) = (vec![], false);
        let mut slot_of = |p: &mut Program, slot: u32| {
            let slot = slot as usize;
            let at = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
                slots.push(slot);
                p.inputs.push(self.inputs[slot].clone());
                slots.len() - 1
            });
            at as u32
        };
        let mut map = vec![Id(0); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            let kind = match node.kind {
                Kind::Input(slot) => Kind::Input(slot_of(&mut p, slot)),
                Kind::Pick(slot) => Kind::Pick(slot_of(&mut p, slot)),
                Kind::Index(Index::Rows) => {
                    reads_rows = true;
                    Kind::Uniform(self.uniforms.len() as u32)
                }
                kind => kind,
            };
            let args = node.args.iter().map(|a| map[a.index()]).collect();
            map[i] = p.push(kind, args, node.dtype, node.extent);
        }
        p.outputs.iter_mut().for_each(|o| o.node = map[o.node.index()]);
        if reads_rows {
            p.uniforms.push(Uniform { name: "rows".into(), dtype: DType::I64 });
        }
        (p, slots, reads_rows)
    }

    /// The Program with `shared` as inputs.
    fn second_part(&self, shared: &[Id]) -> Program {
        let mut p = Program { nodes: vec![], memo: HashMap::new(), ..self.clone() };
        let mut map = vec![Id(0); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            map[i] = if let Ok(k) = shared.binary_search(&Id(i as u32)) {
                let slot = (self.inputs.len() + k) as u32;
                p.inputs.push(Input { name: format!("once_{i}"), dtype: node.dtype, extent: node.extent, by: None });
                p.push(Kind::Input(slot), vec![], node.dtype, node.extent)
            } else {
                let args = node.args.iter().map(|a| map[a.index()]).collect();
                p.push(node.kind, args, node.dtype, node.extent)
            };
        }
        p.outputs.iter_mut().for_each(|o| o.node = map[o.node.index()]);
        p.compact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x · w / (sum(w) + rows), w being a column.
    fn weighted() -> Program {
        let mut p = Program::new("weighted");
        let x = p.input("x", DType::F32, Extent::ELEM);
        let w = p.input("w", DType::BF16, Extent::COL);
        let s = p.reduce(ReduceOp::Sum, Over::Cols, w);
        let rows = p.index(Index::Rows);
        let s = p.op(Op::Add, &[s, rows]);
        let q = p.op(Op::Div, &[w, s]);
        let y = p.op(Op::Mul, &[x, q]);
        p.output("out", y, DType::F32);
        p
    }

    #[test]
    fn what_no_row_changes_is_split_off_with_all_that_it_is_made_of() {
        let Split { once, slots, reads_rows, rest } = weighted().split().expect("q");
        assert_eq!((once.verify(), rest.verify()), (Ok(()), Ok(())));
        assert_eq!((&slots[..], reads_rows), (&[1][..], true));
        let outputs: Vec<Extent> = once.outputs.iter().map(|o| o.extent).collect();
        assert_eq!(outputs, [Extent::ELEM]);
        assert_eq!(once.uniforms.len(), 1);
        let inputs: Vec<(DType, Extent)> = rest.inputs.iter().map(|i| (i.dtype, i.extent)).collect();
        assert_eq!(inputs, [(DType::F32, Extent::ELEM), (DType::BF16, Extent::COL), (DType::F32, Extent::COL)]);
        assert_eq!(rest.nodes().len(), 3, "{rest}");
    }

    #[test]
    fn reductions_of_rows_stay() {
        let mut p = Program::new("sum");
        let x = p.input("x", DType::F32, Extent::ELEM);
        let w = p.input("w", DType::F32, Extent::COL);
        let x = p.op(Op::Mul, &[x, w]);
        let s = p.reduce(ReduceOp::Sum, Over::Cols, x);
        let all = p.reduce(ReduceOp::Sum, Over::All, x);
        p.output("rows", s, DType::F32);
        p.output("all", all, DType::F32);
        assert_eq!(p.split(), None);
    }
}
