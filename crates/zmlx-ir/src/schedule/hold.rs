//! What of a row registers hold. A value of the first stage is held in place of the inputs that it is made of, where nothing
//! else reads them later and they would take more room: of a masked row the choice, not the row beside its mask.

use super::lower::is_along;
use crate::{
    DType, Extent, Op, Program,
    program::{Id, Kind},
};

/// A value held in place of these inputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stand {
    pub value: Id,
    pub inputs: Vec<Id>,
}

/// The type of an array that holds so many elements of a tensor at a time: 16-bit floats are packed.
pub(super) fn packed(dtype: DType, vector: u32) -> DType {
    match dtype {
        DType::F16 | DType::BF16 if vector.is_multiple_of(2) => dtype,
        dtype => dtype.compute(),
    }
}

/// The type of an array that holds a value: a choice between a 16-bit input and 0 or an infinity loses nothing if packed.
pub(super) fn held(p: &Program, id: Id, vector: u32) -> DType {
    let node = p.node(id);
    let any = |id: Id| {
        let value = if let Kind::Const(bits) = p.node(id).kind { f64::from_bits(bits) } else { f64::NAN };
        value == 0.0 || value.is_infinite()
    };
    match (node.kind, node.args.as_slice()) {
        (Kind::Input(slot), _) => packed(p.inputs[slot as usize].dtype, vector),
        (Kind::Op(Op::Select), &[_, a, b]) if any(b) => held(p, a, vector),
        (Kind::Op(Op::Select), &[_, a, b]) if any(a) => held(p, b, vector),
        _ => node.dtype,
    }
}

/// Bytes of registers that an element takes.
pub(super) fn bytes(p: &Program, id: Id, vector: u32) -> u32 {
    match held(p, id, vector) {
        dtype @ (DType::F16 | DType::BF16) => dtype.size_bytes() as u32,
        dtype => dtype.size_bytes().max(4) as u32,
    }
}

/// The values that are held in place of inputs.
pub(super) fn stands(p: &Program, vector: u32) -> Vec<Stand> {
    let live = p.live();
    let mut after = vec![false; p.nodes().len()];
    let mut read_later = vec![false; p.nodes().len()];
    for id in p.ids().filter(|i| live[i.index()]) {
        let node = p.node(id);
        let runs_later = node.args.iter().any(|a| after[a.index()]);
        after[id.index()] = runs_later || is_along(node.kind);
        for a in node.args.iter().filter(|_| runs_later) {
            read_later[a.index()] |= !after[a.index()] && p.node(*a).extent == Extent::ELEM;
        }
    }
    let below: Vec<(Id, Vec<Id>)> =
        p.ids().filter(|i| read_later[i.index()]).map(|id| (id, inputs_below(p, id))).collect();
    let mut stands = vec![];
    for (value, all) in below.iter().filter(|b| !matches!(p.node(b.0).kind, Kind::Input(_))) {
        let elsewhere = |i: &Id| below.iter().any(|(other, inputs)| other != value && inputs.contains(i));
        let inputs: Vec<Id> = all.iter().filter(|i| !elsewhere(i)).copied().collect();
        let saved: u32 = inputs.iter().map(|i| bytes(p, *i, vector)).sum();
        if saved > bytes(p, *value, vector) {
            stands.push(Stand { value: *value, inputs });
        }
    }
    stands
}

/// Inputs of elements that a value is made of.
fn inputs_below(p: &Program, id: Id) -> Vec<Id> {
    let (mut open, mut found) = (vec![id], vec![]);
    while let Some(id) = open.pop() {
        let node = p.node(id);
        if matches!(node.kind, Kind::Input(_)) && node.extent == Extent::ELEM && !found.contains(&id) {
            found.push(id);
        }
        open.extend(&node.args);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Formula, Signature};
    use DType::{BF16, F32, U8};

    #[test]
    fn a_choice_is_held_in_place_of_the_row_and_its_mask() {
        let of = |formula: &str, inputs: &[DType]| {
            let formula = Formula::parse(formula).expect("a formula");
            let inputs = inputs.iter().map(|dtype| (*dtype, Extent::ELEM)).collect();
            let p = formula.bind("f", &Signature { inputs }).expect("a Program");
            let held = stands(&p, 8).into_iter();
            held.map(|s| (s.inputs.len(), bytes(&p, s.value, 8))).collect::<Vec<_>>()
        };
        let softmax = "softmax(m != 0 ? x : -INFINITY)";
        assert_eq!(of(softmax, &[U8, F32]), [(2, 4)]);
        assert_eq!(of(softmax, &[U8, BF16]), [(2, 2)]);
        // read again, or no smaller
        assert_eq!(of("let y = m != 0 ? x : 0; y - max(y) + x * m", &[U8, F32]), []);
        assert_eq!(of("let y = x + z; y * mean(y)", &[BF16, BF16]), []);
        assert_eq!(of("let y = x + z; y * mean(y)", &[F32, F32]), [(2, 4)]);
        assert_eq!(of("let y = x + z; y * mean(x)", &[F32, F32]), [(2, 4)]);
    }
}
