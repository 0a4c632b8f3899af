//! Clusters of blocks, which CUDA has alone: a sum among them, and mistakes in how they wait for each other.

use crate::{
    args, numbers,
    standin::{Bytes, Dialect::Cuda},
    unit,
};

const THREADS: usize = 64;
const BLOCKS: usize = 4;
const ROWS: usize = 3;

/// Two clusters of four blocks add up rows of 256 numbers: warps, the block, then the cluster, in the order of the blocks.
const SUMS: &str = r#"
struct sums_args { int rows; };
__device__ float remote(const float* p, int rank) {
  unsigned long long q;
  asm("mapa.u64 %0, %1, %2;" : "=l"(q) : "l"(p), "r"(rank));
  return *(const float*)q;
}
#define ARRIVE asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#define WAIT asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
extern "C" __global__ __cluster_dims__(4, 1, 1) __launch_bounds__(64) void sums(
    const float* x, float* out, const sums_args args) {
  __shared__ float part[2], slot[1];
  int t = threadIdx.x, rank = blockIdx.x % 4;
  for (int row = blockIdx.x / 4; row < args.rows; row += gridDim.x / 4) {
    float v = x[row * 256 + rank * 64 + t];
    for (int s = 16; s > 0; s /= 2) v += __shfl_xor_sync(0xffffffffu, v, s);
    if (t % 32 == 0) part[t / 32] = v;
    __syncthreads();
    if (t == 0) slot[0] = part[0] + part[1];
    /*1*/ ARRIVE /*2*/ WAIT
    float sum = remote(slot, 0);
    for (int r = 1; r < 4; r++) sum += remote(slot, r);
    /*3*/ ARRIVE
    out[row * 256 + rank * 64 + t] = sum;
    /*4*/ WAIT
  }
}
"#;

/// The sums by this text, or what was reported.
fn run(text: &str) -> Option<Result<Vec<f32>, String>> {
    let unit = unit(Cuda, text, &["sums"])?;
    let (n, grid) = (ROWS * BLOCKS * THREADS, [2 * BLOCKS as u32, 1, 1]);
    let mut buffers = [Bytes::of_f32(&numbers(n)), Bytes::poisoned(4 * n)];
    let args = args(&[ROWS as i32]);
    let done = unit.run_in_every_order("sums", grid, [THREADS as u32, 1, 1], 0, &mut buffers, &args);
    Some(done.map(|()| buffers[1].to_f32()))
}

fn expected() -> Vec<f64> {
    let sum = |row: &[f32]| row.iter().map(|v| f64::from(*v)).sum::<f64>();
    numbers(ROWS * BLOCKS * THREADS).chunks(256).flat_map(|row| vec![sum(row); 256]).collect()
}

#[test]
fn a_sum_among_the_blocks_of_a_cluster_is_that_of_the_oracle() {
    let Some(got) = run(SUMS) else { return };
    let got = got.unwrap_or_else(|e| panic!("{e}"));
    assert!(got.iter().zip(expected()).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4), "{got:?}");
}

/// The text with these replacements is caught by a report with `sign` in it.
fn caught(changes: &[(&str, &str)], sign: &str) {
    let bug = changes.iter().fold(SUMS.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    let Some(got) = run(&bug) else { return };
    let report = got.expect_err("not caught");
    assert!(report.contains(sign), "{report}");
}

#[test]
fn a_read_without_a_wait_for_the_cluster_is_caught() {
    caught(&[("/*1*/ ARRIVE /*2*/ WAIT", "__syncthreads();")], "differ");
}

#[test]
fn a_slot_that_is_written_while_others_read_it_is_caught() {
    // the second row of a cluster overwrites what slower blocks still read of the first
    caught(&[("/*3*/ ARRIVE", ""), ("/*4*/ WAIT\n  }", "}\n  ARRIVE WAIT")], "differ");
}

#[test]
fn a_block_that_ends_before_the_others_have_read_is_caught() {
    let once = ("row += gridDim.x / 4", "row += args.rows");
    caught(&[("/*3*/ ARRIVE", ""), ("/*4*/ WAIT", ""), once], "which has ended");
}

#[test]
fn arrivals_and_waits_that_do_not_take_turns_are_caught() {
    caught(&[("/*4*/ WAIT", "")], "arrives twice");
    caught(&[("/*3*/ ARRIVE", "")], "without arriving");
    caught(&[("/*4*/ WAIT", ""), ("row += gridDim.x / 4", "row += args.rows")], "ends without waiting");
}

#[test]
fn blocks_that_do_not_come_to_the_same_wait_are_caught() {
    let bug = "if (rank < 2) { /*1*/ ARRIVE\n WAIT } else { ARRIVE\n\n WAIT }";
    caught(&[("/*1*/ ARRIVE /*2*/ WAIT", bug)], "blocks of a cluster do not come to the same barrier");
}

#[test]
fn a_wait_in_divergent_code_is_caught() {
    caught(&[("/*1*/ ARRIVE /*2*/ WAIT", "if (t < 32) { ARRIVE WAIT }")], "do not come to the same barrier");
}

#[test]
fn a_read_from_a_block_that_is_not_there_is_caught() {
    caught(&[("r < 4", "r < 5")], "a read from block 4 of a cluster of 4");
}

#[test]
fn a_grid_without_whole_clusters_is_refused() {
    let Some(unit) = unit(Cuda, SUMS, &["sums"]) else { return };
    let mut buffers = [Bytes::poisoned(4), Bytes::poisoned(4)];
    let done = unit.run_in_every_order("sums", [6, 1, 1], [64, 1, 1], 0, &mut buffers, &args(&[0]));
    assert!(done.unwrap_err().contains("6 blocks are no whole clusters of 4"));
}
