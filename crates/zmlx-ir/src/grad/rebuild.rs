//! Copies of Programs, node by node through the constructors, so that a pass only says what it changes.

use crate::{
    Op,
    program::{Id, Kind, Node, Program},
};

/// A copy of `program`. `change` is asked first for each node, with its arguments in the copy; None copies it.
pub(super) fn rebuild(program: &Program, mut change: impl FnMut(&mut Program, Id, &[Id]) -> Option<Id>) -> Program {
    let mut copy = Program::new(program.name.clone());
    let inputs: Vec<Id> = program.inputs.iter().map(|i| copy.input(i.name.clone(), i.dtype, i.extent)).collect();
    copy.inputs.clone_from(&program.inputs);
    let uniforms: Vec<Id> = program.uniforms.iter().map(|u| copy.uniform(u.name.clone(), u.dtype)).collect();
    let mut map: Vec<Id> = Vec::with_capacity(program.nodes().len());
    for id in program.ids() {
        let node = program.node(id);
        let args: Vec<Id> = node.args.iter().map(|a| map[a.index()]).collect();
        let new = change(&mut copy, id, &args).unwrap_or_else(|| match node.kind {
            Kind::Input(slot) => inputs[slot as usize],
            Kind::Uniform(slot) => uniforms[slot as usize],
            Kind::Const(bits) => copy.constant(node.dtype, f64::from_bits(bits)),
            Kind::Int(v) => copy.int(node.dtype, v),
            Kind::Index(index) => copy.index(index),
            Kind::Op(op) => copy.op(op, &args),
            Kind::Reduce(op, over) => copy.reduce(op, over, args[0]),
            Kind::Fold(slot) => copy.fold(program.folds[slot as usize].clone(), &args),
            Kind::Scan(scan) => copy.scan(scan, &args),
            Kind::Pick(slot) => copy.pick(slot, args[0]),
            Kind::Rand => copy.rand(args[0]),
            Kind::Expand | Kind::Stack | Kind::Weave => copy.expand(args[0]),
        });
        map.push(new);
    }
    copy.outputs = program.outputs.clone();
    for o in &mut copy.outputs {
        o.node = map[o.node.index()];
    }
    copy
}

/// Which values decide something: a comparison, a rounding, a position. They are computed just as the forward pass
/// computes them, because one bit of difference may decide otherwise.
pub(super) fn decisive(program: &Program) -> Vec<bool> {
    let decides = |node: &Node| match node.kind {
        Kind::Op(Op::Floor | Op::Ceil | Op::Round | Op::Rem) => true,
        Kind::Op(op) => op.is_predicate() || !node.dtype.is_float(),
        Kind::Reduce(op, _) => op.is_column(),
        Kind::Pick(_) => true,
        _ => false,
    };
    let mut marked = vec![false; program.nodes().len()];
    for id in program.ids().rev() {
        let node = program.node(id);
        if marked[id.index()] || decides(node) {
            for a in &node.args {
                marked[a.index()] = true;
            }
        }
    }
    marked
}

/// A node for people: `%7 = max(%3)`.
pub(super) fn describe(program: &Program, id: Id) -> String {
    let node = program.node(id);
    let name = match node.kind {
        Kind::Input(slot) => return format!("input {}", program.inputs[slot as usize].name),
        Kind::Uniform(slot) => return format!("uniform {}", program.uniforms[slot as usize].name),
        Kind::Op(op) => op.name().to_string(),
        Kind::Reduce(op, over) if op.rank().is_some() => {
            format!("{} {} over {over:?}", op.name(), op.rank().unwrap_or(0)).to_lowercase()
        }
        Kind::Reduce(op, over) => format!("{} over {over:?}", op.name()).to_lowercase(),
        Kind::Fold(_) => "reduce".to_string(),
        Kind::Scan(s) => {
            let way = if s.reverse { " in reverse" } else { "" };
            let start = if s.exclusive { "exclusive " } else { "" };
            format!("{start}running {:?}{way}", s.op).to_lowercase()
        }
        other => format!("{other:?}").to_lowercase(),
    };
    let args: Vec<String> = node
        .args
        .iter()
        .map(|&a| match program.node(a).kind {
            Kind::Input(slot) => program.inputs[slot as usize].name.clone(),
            Kind::Uniform(slot) => program.uniforms[slot as usize].name.clone(),
            _ => format!("{a:?}"),
        })
        .collect();
    format!("{id:?} = {name}({})", args.join(", "))
}
