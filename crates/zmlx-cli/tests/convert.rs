//! `zmlx convert` as a shell runs it: what it says, and that a disk that is full or a signal leaves nothing half-written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CONFIG: &str = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "tie_word_embeddings": true}"#;

/// A folder with a checkpoint in `in`, there as long as this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("zmlx-convert-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let from = path.join("in");
        fs::create_dir_all(&from).expect("created");
        fs::write(from.join("config.json"), CONFIG).expect("written");
        let layer = |name: &str| format!("model.layers.0.{name}.weight");
        let matrices = ["q_proj", "k_proj", "v_proj", "o_proj"].map(|n| layer(&format!("self_attn.{n}")));
        let mlp = ["gate_proj", "up_proj", "down_proj"].map(|n| layer(&format!("mlp.{n}")));
        let norms = [layer("input_layernorm"), layer("post_attention_layernorm"), "model.norm.weight".into()];
        let embedding = ("model.embed_tokens.weight".to_string(), vec![100, 64]);
        let shapes = matrices.into_iter().chain(mlp).map(|n| (n, vec![64, 64]));
        let shapes = shapes.chain(norms.map(|n| (n, vec![64]))).chain([embedding]);
        let device = candle_core::Device::Cpu;
        let made = shapes.map(|(n, s)| (n, candle_core::Tensor::randn(0f32, 1.0, s, &device).expect("made")));
        let tensors = made.collect::<std::collections::HashMap<_, _>>();
        candle_core::safetensors::save(&tensors, from.join("model.safetensors")).expect("written");
        Scratch(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn convert(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zmlx"));
    command.args(["convert", "--model", "in", "--out", "out"]).args(more).current_dir(folder);
    command.output().expect("it starts")
}

#[test]
fn a_folder_is_quantised_and_not_written_over() {
    let scratch = Scratch::new("folder");
    let done = convert(&scratch.0, &[]);
    let said = String::from_utf8_lossy(&done.stdout);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(
        said,
        "out: 35264 parameters, of which 35072 in 4 bits and groups of 64\n0.02 MiB in 1 file, 5.147 bits a number\n",
        "{told}"
    );
    assert_eq!(scratch.names(), ["in", "out"]);
    let again = convert(&scratch.0, &[]);
    let told = String::from_utf8_lossy(&again.stderr);
    assert_eq!(told, "error: convert: out, expected a folder that is not there yet, or --force, got out\n");
    assert_eq!(again.status.code(), Some(2));
    let forced = convert(&scratch.0, &["--force", "--bits", "8", "--group-size", "32", "--json"]);
    let said = String::from_utf8_lossy(&forced.stdout);
    assert!(said.contains("\"bits\":8") && said.contains("\"quantized\":35072"), "{said}");
    assert_eq!(scratch.names(), ["in", "out"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_nothing() {
    let scratch = Scratch::new("full");
    // a file may have 8 KiB, and a signal for more is not taken: writing fails as on a full disk
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" convert --model in --out out";
    let shell = Command::new("bash").args(["-c", script, env!("CARGO_BIN_EXE_zmlx")]).current_dir(&scratch.0).output();
    let output = shell.expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("model.safetensors: File too large"), "{told}");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(scratch.names(), ["in"]);
}
