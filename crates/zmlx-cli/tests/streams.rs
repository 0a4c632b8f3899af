//! The program as a shell runs it: pipes that close early, disks that are full, exit statuses.

use std::process::{Command, Output, Stdio};

fn zmlx(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zmlx"));
    command.args(args).env("ZMLX_CACHE_DIR", "");
    command
}

fn run(args: &[&str]) -> Output {
    zmlx(args).output().expect("it starts")
}

/// One call of each verb that prints.
const VERBS: [&[&str]; 12] = [
    &[],
    &["kernels"],
    &["kernels", "--json"],
    &["doctor"],
    &["doctor", "--json"],
    &["show", "softmax(x)", "--grad", "x"],
    &["show", "softmax(x)", "--target", "formula"],
    &["verify", "--filter", "relu", "--quick", "--device", "cpu"],
    &["verify", "--filter", "relu", "--quick", "--device", "cpu", "--json"],
    &["bench", "--filter", "relu2", "--shape", "4x16", "--rounds", "1", "--device", "cpu"],
    &["bench", "--filter", "relu2", "--shape", "4x16", "--rounds", "1", "--device", "cpu", "--json"],
    &["tune", "--filter", "relu2", "--device", "cpu"],
];

#[test]
fn a_pipe_that_closes_early_ends_it_without_a_word() {
    for args in VERBS {
        // closed before it begins, as a quick program may have written all before a reader is gone
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = zmlx(args).stdout(writer).output().expect("it starts");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(141), "{args:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told() {
    for args in VERBS {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let output = zmlx(args).stdout(full).output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.starts_with("error: standard output, expected to write to it, got "), "{args:?}: {told}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn nobody_needs_to_read_what_goes_wrong() {
    let mut child = zmlx(&["show", "x +"]).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(2));
}

#[test]
fn a_filter_that_fits_nothing_is_a_mistake_for_every_verb() {
    for verb in ["kernels", "verify", "bench", "tune"] {
        let output = run(&[verb, "--filter", "sofmax"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(&format!("{verb}: --filter sofmax, expected ")), "{told}");
        assert!(told.contains("did you mean softmax"), "{told}");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]));
    }
}

#[test]
fn a_plot_that_cannot_be_written_is_told_before_anything_is_measured() {
    let output = run(&["bench", "--filter", "relu2", "--shape", "4x4", "--plot", "/none/x.svg", "--device", "cpu"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("error: bench: --plot /none/x.svg: "), "{told}");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]));
}

#[test]
fn a_name_of_the_catalog_shows_its_formula() {
    let output = run(&["show", "softmax", "--target", "cuda"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("__global__"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("softmax of the catalog: "), "{told}");
    let named = run(&["show", "rms_norm", "--grad", "w"]);
    assert!(named.status.success(), "{}", String::from_utf8_lossy(&named.stderr));
    let near = run(&["show", "sofmax"]);
    assert_eq!(String::from_utf8_lossy(&near.stderr), "sofmax is an input; did you mean softmax of the catalog?\n");
    let output = run(&["show", "attention"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("written by hand"));
    assert_eq!(output.status.code(), Some(2));
    let input = run(&["show", "softmax", "--in", "softmax:f16"]);
    assert!(String::from_utf8_lossy(&input.stdout).contains("f16") && input.stderr.is_empty());
}

#[test]
fn the_legend_says_which_bound_is_whose() {
    let told = |filter| {
        let output = run(&["verify", "--filter", filter, "--quick", "--dtype", "f32", "--device", "cpu"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (formula, by_hand) = (told("relu2"), told("dequantize_affine"));
    assert!(formula.contains("f64 oracle") && !formula.contains("by hand"), "{formula}");
    assert!(!by_hand.contains("f64 oracle") && by_hand.contains("by hand"), "{by_hand}");
    let none = run(&["verify", "--filter", "paged_attention", "--dtype", "f64", "--device", "cpu"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("expected one that paged_attention takes"));
}
