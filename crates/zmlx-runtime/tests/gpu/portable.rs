//! Portable kernels of the tests, and what they compute, on the CPU.
#![allow(dead_code, reason = "no test uses all of it")]

/// A row a block.
pub const SOFTMAX: &str = "
    shared_array(f32, part, 32);
    const i64 cols = args.x_dims[1];
    device const x_t* row = x + block_index * cols;
    f32 most = -INFINITY;
    for (i64 c = thread_index; c < cols; c += block_threads) {
        most = fmaxf(most, wide(row[c]) * args.scale);
    }
    most = block_max(most, part);
    f32 sum = 0.0f;
    for (i64 c = thread_index; c < cols; c += block_threads) {
        sum += expf(wide(row[c]) * args.scale - most);
    }
    sum = block_sum(sum, part);
    for (i64 c = thread_index; c < cols; c += block_threads) {
        y[block_index * cols + c] = narrow<y_t>(expf(wide(row[c]) * args.scale - most) / sum);
    }";

/// What [`SOFTMAX`] computes.
pub fn softmax(x: &[f32], cols: usize, scale: f64) -> Vec<f64> {
    let row = |row: &[f32]| {
        let scaled: Vec<f64> = row.iter().map(|v| f64::from(*v) * scale).collect();
        let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled.iter().map(|v| (v - most).exp()).sum();
        scaled.into_iter().map(move |v| (v - most).exp() / sum).collect::<Vec<_>>()
    };
    x.chunks(cols).flat_map(row).collect()
}

/// A function of [`BLOCK_SUM`].
pub const SQUARE: &str = "function i32 square(device const i32* p) { return *p * *p; }";

/// A sum of squares a block.
pub const BLOCK_SUM: &str = "
    shared_array(i32, part, 32);
    i32 sum = 0;
    for (i64 i = (i64)block_index * block_threads + thread_index; i < args.x_len; i += (i64)grid_blocks * block_threads) {
        sum += square(x + i);
    }
    sum = block_sum(sum, part);
    if (thread_index == 0) {
        sums[block_index] = sum;
    }";

/// What [`BLOCK_SUM`] computes.
pub fn block_sums(x: &[i32], blocks: usize, threads: usize) -> Vec<i32> {
    let mut sums = vec![0; blocks];
    for (i, v) in x.iter().enumerate() {
        sums[i / threads % blocks] += v * v;
    }
    sums
}

/// A product of two 16 × 16 matrices on matrix units, and the sums of its rows.
pub const FRAGMENTS: &str = "
    shared x_t* a = (shared x_t*)memory;
    shared x_t* b = a + 16 * 24;
    const i32 at = thread_index / 2 * 24 + thread_index % 2 * 8;
    copy_async(a + at, x + thread_index * 8, true);
    copy_async(b + at, w + thread_index * 8, true);
    copy_commit();
    copy_wait<0>();
    barrier();
    fragment_c c;
    clear(c);
    fragment_a<x_t> of_a = load_a<OF_A>(a, 0, 24, lane);
    fragment_b<x_t> of_b = load_b<OF_B>(b, 0, 24, lane);
    multiply_add(c, of_a, of_b);
    f32 sum[2];
    sum[0] = sum[1] = 0.0f;
    for (i32 e = 0; e < 8; e++) {
        y[fragment_row(e, lane) * 16 + fragment_col(e, lane)] = element(c, e);
        sum[e / FRAGMENT_HALF % 2] += element(c, e);
    }
    for (i32 r = 0; r < 2; r++) {
        const f32 all = across_row<sum_of>(sum[r]);
        if (fragment_col(0, lane) == 0) {
            sums[fragment_row(r * FRAGMENT_HALF, lane)] = all;
        }
    }";
