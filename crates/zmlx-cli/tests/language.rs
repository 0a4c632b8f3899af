//! The verbs of language models, on a checkpoint of a few random numbers and on SmolLM2 where it is there (`.ci/smollm2.sh`).

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

fn zmlx(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zmlx")).args(args).env("ZMLX_CACHE_DIR", "").output().expect("it starts")
}

fn smollm2() -> Option<String> {
    let name = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    let here = PathBuf::from(env!("CARGO_BIN_EXE_zmlx"));
    let found = here.ancestors().map(|folder| folder.join(name)).find(|file| file.exists());
    if found.is_none() {
        println!("not run: no {name}; .ci/smollm2.sh fetches it");
    }
    found.map(|file| file.display().to_string())
}

#[test]
fn what_is_no_checkpoint_is_told() {
    let folder = env!("CARGO_MANIFEST_DIR");
    for verb in ["generate", "inspect", "chat"] {
        let prompt: &[&str] = if verb == "generate" { &["--prompt", "x"] } else { &[] };
        let output = zmlx(&[&[verb, "--model", folder], prompt].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.starts_with("error: ") && told.contains("config.json: No such file"), "{told}");
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_answer_is_text_or_one_object() {
    let Some(model) = smollm2() else { return };
    let ask = ["generate", "--model", &model, "--device", "cpu", "--prompt", "What is the capital of France?"];
    let text = zmlx(&ask);
    assert_eq!(String::from_utf8_lossy(&text.stdout), "The capital of France is Paris.\n");
    assert!(String::from_utf8_lossy(&text.stderr).contains("prompt  37 tokens"));
    let json = zmlx(&[&ask[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(json["text"], "The capital of France is Paris.");
    assert_eq!(json["tokens"], serde_json::json!([504, 3575, 282, 4649, 314, 7042, 30]));
    assert!(
        json["prompt_tps"].as_f64().is_some_and(|n| n > 0.0) && json["decode_tps"].as_f64().is_some_and(|n| n > 0.0)
    );
    let patched = zmlx(&[&ask[..], &["--json", "--patch", "training"]].concat());
    let patched: serde_json::Value = serde_json::from_slice(&patched.stdout).expect("one object");
    assert_eq!((&patched["tokens"], &patched["patched"]), (&json["tokens"], &"training".into()));
    assert_eq!(patched["patch"]["swapped"].as_array().map(Vec::len), Some(30 + 61 + 30));
    let wrong = zmlx(&[&ask[..], &["--top-p", "2"]].concat());
    assert_eq!(String::from_utf8_lossy(&wrong.stderr), "error: sampler: top_p, expected above 0, at most 1, got 2\n");
}

#[test]
fn a_conversation_is_a_line_a_turn() {
    let Some(model) = smollm2() else { return };
    let mut child = Command::new(env!("CARGO_BIN_EXE_zmlx"))
        .args(["chat", "--model", &model, "--device", "cpu", "--max-tokens", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"What is the capital of France?\n\n/new\nWhat is the capital of France?\n").expect("written");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "The capital of France is Paris.\n".repeat(2));
}

#[test]
fn the_parts_of_a_model_are_listed() {
    let Some(model) = smollm2() else { return };
    let json = zmlx(&["inspect", "--model", &model, "--device", "cpu", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(json["parameters"], 134_515_008);
    assert_eq!(json["cache_bytes_a_token"], 2 * 30 * 3 * 64 * 4);
    let text = zmlx(&["inspect", "--model", &model, "--device", "cpu"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("model.layers.*.mlp.down_proj") && text.contains("affine 4 bits, groups of 32"), "{text}");
}

#[test]
fn a_model_is_timed_patched_and_unpatched_after_they_were_compared() {
    let config = std::env::temp_dir().join(format!("zmlx-bench-model-{}.json", std::process::id()));
    let text = r#"{"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 50,
        "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "num_experts": 4, "num_experts_per_tok": 2,
        "quantization": {"group_size": 32, "bits": 4}}"#;
    std::fs::write(&config, text).expect("a file");
    let path = config.display().to_string();
    let bench = ["bench", "model", "--config", &path, "--random-weights", "--device", "cpu", "--rounds", "1"];
    let sizes = ["--prompt-tokens", "5", "--decode-tokens", "3", "--json"];
    let ways = |more: &[&str]| -> Vec<String> {
        let output = zmlx(&[&bench[..], &sizes, more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("an object"));
        let name = |row: serde_json::Value| {
            assert!(row["error"].as_f64().is_some_and(|e| e < 1e-4) && row["tokens_that_differ"] == 0, "{row}");
            row["patch"].as_str().map(String::from)
        };
        rows.filter_map(name).collect()
    };
    assert_eq!(ways(&[]), ["unpatched", "inference", "training", "all"]);
    let alone = ["unpatched", "moe_mlp", "rms_norm", "residual_norm", "attention", "softmax", "rope_qk"];
    assert_eq!(ways(&["--selective"]), alone);
    let wrong = zmlx(&[&bench[..], &["--prompt-tokens", "99"]].concat());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("bench model: tokens, expected at most 64, got 131"));
    let _ = std::fs::remove_file(config);
}
