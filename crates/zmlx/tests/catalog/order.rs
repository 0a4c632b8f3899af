//! The kernels that sort integers and add up rows, as GPU text: executed on the stand-in, and compared with a sort of the
//! standard library.

use crate::{
    launch::table,
    standin::{Bytes, Dialect, Unit, compiler},
};
use zmlx::order;
use zmlx_ir::{DType, Scalar};
use zmlx_runtime::backend::c_like::raw::{Raw, Tensor};

const KEYS: usize = 2500;
const BOUND: usize = 700;
const COLS: usize = 300;

/// Gives each kernel, with `shift` as its uniform, to `f`.
pub fn each(shift: i64, f: &mut dyn FnMut(&Raw<'_>)) {
    let uniforms = [("shift".to_string(), Scalar::Int(shift))];
    let t = |name, dtype, rank| Tensor { name, dtype, rank };
    let word = |name| t(name, DType::U32, 1);
    let [count, place] = [order::COUNT, order::PLACE].map(|body| format!("{}{body}", order::LOAD));
    let mut raw = |name, inputs: &[Tensor<'_>], outputs: &[Tensor<'_>], body: &str, shifts: bool| {
        let uniforms = if shifts { &uniforms[..] } else { &[] };
        f(&Raw { name, inputs, outputs, uniforms, header: "", body, threads: 256, shared: 0 });
    };
    raw("count_digits", &[word("keys")], &[word("counts")], &count, true);
    let inputs = [word("keys"), word("from"), word("starts")];
    raw("place_digits", &inputs, &[word("sorted"), word("order")], &place, true);
    raw("offsets_of_keys", &[word("keys"), t("none", DType::U8, 1)], &[word("offsets")], order::OFFSETS, false);
    raw("places_in_order", &[word("order")], &[word("positions")], order::INVERSE, false);
    let inputs = [t("rows", DType::F32, 2), word("order"), word("offsets")];
    raw("sums_of_rows", &inputs, &[t("y", DType::F32, 2)], order::SUM, false);
}

/// Runs the kernel of this name.
fn run(dialect: Dialect, name: &str, shift: i64, blocks: usize, dims: &[&[usize]], buffers: &mut [Bytes]) {
    let mut ran = false;
    each(shift, &mut |raw| {
        if raw.name != name {
            return;
        }
        let text = raw.text(table(dialect)).unwrap_or_else(|e| panic!("{e}"));
        let entry = raw.entry();
        let unit = Unit::compile(dialect, &text, &[&entry]).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let mut args = vec![];
        raw.pack(dims, &mut args);
        unit.run_in_every_order(&entry, [blocks as u32, 1, 1], [raw.threads, 1, 1], 0, buffers, &args)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        ran = true;
    });
    assert!(ran, "{name}");
}

fn words(values: &[u32]) -> Bytes {
    Bytes::new(values.iter().flat_map(|v| v.to_ne_bytes()).collect())
}

fn to_words(b: &Bytes) -> Vec<u32> {
    b.to_i32().into_iter().map(|v| v as u32).collect()
}

fn check(dialect: Dialect) {
    if compiler(dialect).is_none() {
        return println!("not run: no C++ compiler");
    }
    // one key in nine is not below the bound; some integers have no key
    let keys: Vec<u32> = (0..KEYS as u32).map(|i| if i % 9 == 4 { BOUND as u32 } else { i * 7919 % 650 }).collect();
    let mut expected: Vec<u32> = (0..KEYS as u32).collect();
    expected.sort_by_key(|i| keys[*i as usize]);
    let (mut sorted, mut order) = (keys.clone(), (0..KEYS as u32).collect::<Vec<u32>>());
    let (blocks, counted) = (KEYS.div_ceil(1024), 256 * KEYS.div_ceil(1024));
    for shift in [0, 8] {
        let mut buffers = [words(&sorted), Bytes::poisoned(4 * counted)];
        run(dialect, "count_digits", shift, blocks, &[&[KEYS], &[counted]], &mut buffers);
        let counts = to_words(&buffers[1]);
        let starts: Vec<u32> = (0..counted).map(|k| counts[..k].iter().sum()).collect();
        let none = || Bytes::poisoned(4 * KEYS);
        let mut buffers = [words(&sorted), words(&order), words(&starts), none(), none()];
        let dims: [&[usize]; 5] = [&[KEYS], &[KEYS], &[counted], &[KEYS], &[KEYS]];
        run(dialect, "place_digits", shift, blocks, &dims, &mut buffers);
        (sorted, order) = (to_words(&buffers[3]), to_words(&buffers[4]));
    }
    assert_eq!(order, expected);
    let mut buffers = [words(&sorted), Bytes::new(vec![0; BOUND + 1]), Bytes::poisoned(4 * (BOUND + 1))];
    run(dialect, "offsets_of_keys", 0, (BOUND + 1).div_ceil(256), &[&[KEYS], &[BOUND + 1], &[BOUND + 1]], &mut buffers);
    let offsets = to_words(&buffers[2]);
    let below = |n: usize| keys.iter().filter(|k| (**k as usize) < n).count() as u32;
    assert!((0..=BOUND).all(|n| offsets[n] == below(n)));
    let mut buffers = [words(&order), Bytes::poisoned(4 * KEYS)];
    run(dialect, "places_in_order", 0, KEYS.div_ceil(256), &[&[KEYS], &[KEYS]], &mut buffers);
    let positions = to_words(&buffers[1]);
    assert!(order.iter().enumerate().all(|(j, i)| positions[*i as usize] == j as u32));
    let rows: Vec<f32> = (0..KEYS * COLS).map(|i| (i % 1013) as f32 / 64.0).collect();
    let mut buffers = [Bytes::of_f32(&rows), words(&order), words(&offsets), Bytes::poisoned(4 * BOUND * COLS)];
    let dims: [&[usize]; 4] = [&[KEYS, COLS], &[KEYS], &[BOUND + 1], &[BOUND, COLS]];
    run(dialect, "sums_of_rows", 0, BOUND * COLS.div_ceil(256), &dims, &mut buffers);
    let mut sums = vec![0f32; (BOUND + 1) * COLS];
    for (row, key) in keys.iter().enumerate() {
        (0..COLS).for_each(|c| sums[*key as usize * COLS + c] += rows[row * COLS + c]);
    }
    assert_eq!(buffers[3].to_f32(), sums[..BOUND * COLS]);
}

#[test]
fn integers_are_put_into_order_and_their_rows_added_in_cuda_text() {
    check(Dialect::Cuda);
}

#[test]
fn integers_are_put_into_order_and_their_rows_added_in_metal_text() {
    check(Dialect::Metal);
}
