//! A checkpoint that was quantised says what its codes stand for; what cannot be converted leaves nothing behind.

mod files;

use candle_core::{DType, Device, Tensor};
use files::{Scratch, Tensors, largest_difference, random, write_folder};
use std::{cell::Cell, collections::BTreeSet, fs, ops::ControlFlow, path::Path};
use zmlx::portable::{dequantize_affine::dequantize_affine, quantize_affine::quantize_affine};
use zmlx_lm::{
    Checkpoint, Load, Model, Result,
    convert::{Convert, convert},
    weights::{Source, folder::Folder},
};

const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}"#;

fn logits(path: &Path) -> Result<Tensor> {
    of(&Checkpoint::open(path)?.model(&Load::default())?)
}

fn of(model: &Model) -> Result<Tensor> {
    Ok(model.forward_once(&Tensor::new(&[[3u32, 1, 4, 1, 5, 92, 6]], &Device::Cpu)?)?.to_dtype(DType::F32)?)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// A llama of random numbers in the folder `in` of a new one.
fn llama(name: &str) -> Result<(Scratch, Tensors)> {
    let (_, tensors) = random(LLAMA)?;
    let scratch = Scratch::new(&format!("convert-{name}"));
    fs::create_dir(scratch.0.join("in")).expect("created");
    write_folder(&scratch.0.join("in"), LLAMA, &tensors, 5)?;
    fs::write(scratch.0.join("in/tokenizer.json"), "{}").expect("written");
    fs::write(scratch.0.join("in/README.md"), "of the original").expect("written");
    Ok((scratch, tensors))
}

#[test]
fn a_converted_model_says_what_its_codes_stand_for() -> Result<()> {
    let (scratch, tensors) = llama("llama")?;
    let dense = logits(&scratch.0.join("in"))?;
    for (bits, group, shard, most) in
        [(4, 64, u64::MAX, 1.5), (8, 32, 60_000, 0.1), (8, 128, u64::MAX, 0.1), (4, 32, 1, 1.5)]
    {
        let out = scratch.0.join(format!("out-{bits}-{group}"));
        let last = Cell::new((0, 0));
        let progress = |written, all| {
            last.set((written, all));
            ControlFlow::Continue(())
        };
        let how = Convert { bits, group_size: group, shard_bytes: shard, progress: &progress, ..Convert::default() };
        let done = convert(&scratch.0.join("in"), &out, &how)?;
        assert_eq!(last.get(), (done.parameters, done.parameters));
        let stored = Folder::open(&out)?;
        assert_eq!(done.bytes, stored.bytes() as u64);
        assert_eq!(done.files > 1, shard != u64::MAX);
        let files = names(&out);
        assert_eq!(files.iter().filter(|n| n.ends_with(".safetensors")).count(), done.files);
        assert!(files.contains("tokenizer.json") && files.contains("model.safetensors.index.json"), "{files:?}");
        assert!(!files.contains("README.md"), "{files:?}");

        let mut plain = Tensors::new();
        for (name, t) in &tensors {
            // 192 columns are no multiple of 128
            let packed = t.rank() == 2 && t.dim(1)? % group == 0;
            let stem = name.trim_end_matches("weight");
            let read = |part: &str, dtype| stored.dense(&format!("{stem}{part}"), &[], dtype, &Device::Cpu);
            if !packed {
                assert_eq!(largest_difference(t, &read("weight", DType::F32)?)?, 0.0, "{name}");
                plain.insert(name.clone(), t.clone());
                continue;
            }
            let codes = quantize_affine(t, group, bits)?;
            assert_eq!(
                codes[0].flatten_all()?.to_vec1::<u32>()?,
                read("weight", DType::U32)?.flatten_all()?.to_vec1::<u32>()?
            );
            assert_eq!(largest_difference(&codes[1], &read("scales", DType::F32)?)?, 0.0);
            assert_eq!(largest_difference(&codes[2], &read("biases", DType::F32)?)?, 0.0);
            plain.insert(name.clone(), dequantize_affine(&codes[0], &codes[1], &codes[2], bits)?);
        }
        let same = Scratch::new(&format!("convert-plain-{bits}-{group}"));
        write_folder(&same.0, LLAMA, &plain, 100)?;
        let (codes, expected) = (logits(&out)?, logits(&same.0)?);
        assert!(largest_difference(&expected, &codes)? < 1e-4, "{bits} bits, groups of {group}");
        let off = largest_difference(&dense, &codes)?;
        assert!(off < most, "{bits} bits, groups of {group}: {off}");
    }
    Ok(())
}

#[test]
fn the_configuration_states_the_packing_twice_as_mlx_lm_does() -> Result<()> {
    let (scratch, _) = llama("config")?;
    let out = scratch.0.join("out");
    convert(&scratch.0.join("in"), &out, &Convert { bits: 8, group_size: 32, ..Convert::default() })?;
    let config = Checkpoint::open(&out)?.config;
    let q = config.quantization.as_ref().expect("a quantisation");
    assert_eq!((q.group_size, q.bits), (32, 8));
    assert_eq!(config.get("quantization"), config.get("quantization_config"));
    assert_eq!(config.get("quantization").and_then(|q| q.get("mode")).and_then(|m| m.as_str()), Some("affine"));
    let text = fs::read_to_string(out.join("config.json")).expect("read");
    assert!(text.starts_with("{\n    \"hidden_size\": 128,\n"), "{text}");
    Ok(())
}

#[test]
fn weights_are_in_the_dtype_that_the_configuration_states() -> Result<()> {
    let (_, tensors) = random(LLAMA)?;
    let scratch = Scratch::new("convert-dtype");
    fs::create_dir(scratch.0.join("in")).expect("created");
    write_folder(&scratch.0.join("in"), &LLAMA.replacen('{', "{\"torch_dtype\": \"bfloat16\", ", 1), &tensors, 100)?;
    convert(&scratch.0.join("in"), &scratch.0.join("out"), &Convert::default())?;
    let stored = Folder::open(&scratch.0.join("out"))?;
    let name = "model.layers.0.mlp.up_proj";
    let codes = quantize_affine(&tensors[&format!("{name}.weight")].to_dtype(DType::BF16)?, 64, 4)?;
    let scales = stored.dense(&format!("{name}.scales"), &[], DType::BF16, &Device::Cpu)?;
    assert_eq!(largest_difference(&codes[1].to_dtype(DType::F32)?, &scales.to_dtype(DType::F32)?)?, 0.0);
    assert_eq!(stored.dtype(), Some(DType::BF16));
    Ok(())
}

#[test]
fn tied_embeddings_have_no_head() -> Result<()> {
    let (_, tensors) = random(LLAMA)?;
    let scratch = Scratch::new("convert-tied");
    fs::create_dir(scratch.0.join("in")).expect("created");
    write_folder(&scratch.0.join("in"), &LLAMA.replacen('{', "{\"tie_word_embeddings\": true, ", 1), &tensors, 100)?;
    convert(&scratch.0.join("in"), &scratch.0.join("out"), &Convert::default())?;
    let names = Folder::open(&scratch.0.join("out"))?.names();
    assert!(names.iter().all(|n| !n.starts_with("lm_head")) && names.contains(&"model.embed_tokens.scales".into()));
    logits(&scratch.0.join("out")).map(drop)
}

#[test]
fn routers_have_the_bits_that_mlx_lm_gives_them() -> Result<()> {
    const QWEN: &str = r#"{"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100,
        "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "tie_word_embeddings": false}"#;
    let (_, tensors) = random(QWEN)?;
    let scratch = Scratch::new("convert-router");
    fs::create_dir(scratch.0.join("in")).expect("created");
    write_folder(&scratch.0.join("in"), QWEN, &tensors, 100)?;
    convert(&scratch.0.join("in"), &scratch.0.join("out"), &Convert { group_size: 32, ..Convert::default() })?;
    let (config, stored) = (Checkpoint::open(scratch.0.join("out"))?.config, Folder::open(&scratch.0.join("out"))?);
    let router = config.get("quantization").and_then(|q| q.get("model.layers.0.mlp.gate"));
    assert_eq!(router.map(|r| r.to_string()), Some(r#"{"bits":8,"group_size":64}"#.into()));
    let shape = |name: &str| stored.find(&format!("model.layers.0.mlp.{name}"), &[]).map(|f| f.shape);
    assert_eq!(shape("gate.weight"), Some(vec![8, 16]));
    assert_eq!(shape("switch_mlp.up_proj.scales"), Some(vec![8, 32, 2]));
    logits(&scratch.0.join("out")).map(drop)
}

#[test]
fn what_cannot_be_converted_leaves_nothing() -> Result<()> {
    let (scratch, tensors) = llama("refused")?;
    let at = |name: &str| scratch.0.join(name);
    let folder = |name: &str, config: &str, tensors: &Tensors| {
        fs::create_dir(at(name)).expect("created");
        write_folder(&at(name), config, tensors, 100)
    };
    folder("coded", &LLAMA.replacen('{', "{\"quantization\": {\"bits\": 4, \"group_size\": 64}, ", 1), &tensors)?;
    folder("fp8", &LLAMA.replacen('{', "{\"quantization_config\": {\"quant_method\": \"fp8\"}, ", 1), &tensors)?;
    folder("unknown", &LLAMA.replace("llama", "lama"), &tensors)?;
    let mut fewer = tensors.clone();
    fewer.remove("model.layers.1.mlp.up_proj.weight");
    fewer.insert("model.new.weight".into(), tensors["model.norm.weight"].clone());
    folder("fewer", LLAMA, &fewer)?;
    folder("other", LLAMA, &tensors)?;
    fs::write(at("m.gguf"), "GGUF").expect("written");
    fs::create_dir(at("mine")).expect("created");
    let before = names(&scratch.0);
    let forced = Convert { force: true, ..Convert::default() };
    let told = |from: &str, to: &str, how: &Convert<'_>| {
        let said = convert(&at(from), &at(to), how).map_or_else(|e| e.to_string(), |_| "done".into());
        assert_eq!(names(&scratch.0), before, "{said}");
        said.replace(&fs::canonicalize(&scratch.0).expect("a path").display().to_string(), "HERE")
            .replace(&scratch.0.display().to_string(), "HERE")
    };
    let how = Convert::default();
    assert_eq!(
        told("coded", "out", &how),
        "HERE/coded/config.json: weights, expected numbers that are not quantised, got quantization in the configuration"
    );
    assert!(told("fp8", "out", &how).ends_with("got fp8 in the configuration"));
    assert!(told("unknown", "out", &how).contains("model_type, expected one of deepseek_v3, "));
    let fewer = told("fewer", "out", &how);
    assert!(fewer.contains("model.layers.1.mlp.up_proj.weight: missing, expected [192, 128]"), "{fewer}");
    assert!(fewer.contains("model.new.weight: not expected"), "{fewer}");
    assert_eq!(
        told("in", "in/out", &how),
        "convert: out, expected a folder beside HERE/in, neither in it nor around it, got HERE/in/out"
    );
    assert!(told("in", "in", &forced).starts_with("convert: out, expected a folder beside"));
    assert_eq!(
        told("in", "other", &how),
        "convert: out, expected a folder that is not there yet, or --force, got HERE/other"
    );
    assert!(told("in", "mine", &forced).starts_with("convert: out, expected a checkpoint that --force may replace"));
    assert!(told("in", "nowhere/out", &how).starts_with("HERE/nowhere: "));
    assert!(told("nothing", "out", &how).starts_with("HERE/nothing: "));
    assert!(told("m.gguf", "out", &how).starts_with("HERE/m.gguf"));
    assert!(told("in", "out", &Convert { bits: 7, ..Convert::default() }).ends_with("2, 3, 4, 5, 6 or 8, got 7"));
    let seen = Cell::new(0);
    let stop = |_, _| {
        seen.set(seen.get() + 1);
        if seen.get() == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert_eq!(
        told("in", "out", &Convert { progress: &stop, ..Convert::default() }),
        "HERE/out: stopped, nothing is written"
    );
    assert_eq!(seen.get(), 5);
    // what was there stays, and is replaced by what is whole
    let was = logits(&at("other"))?;
    seen.set(0);
    told("in", "other", &Convert { progress: &stop, force: true, ..Convert::default() });
    assert_eq!(largest_difference(&was, &logits(&at("other"))?)?, 0.0);
    assert_eq!(told("in", "other", &forced), "done");
    assert!(Checkpoint::open(at("other"))?.config.quantization.is_some());
    Ok(())
}
