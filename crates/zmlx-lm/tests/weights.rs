//! Checkpoints in every form give the logits of the numbers in them, and damaged ones an error that says what is wrong.

mod files;

use candle_core::{DType, Device, Tensor, quantized::GgmlDType};
use files::{Scratch, Tensors, largest_difference, random, write_folder, write_gguf};
use std::{fs, path::Path};
use zmlx::portable::{dequantize_affine::dequantize_affine, quantize_affine::quantize_affine};
use zmlx_lm::{Checkpoint, Load, Model, Result, blocks::Block};

/// Every size is a multiple of 256, which blocks of K types need.
const LLAMA: &str = r#"{"model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 100, "rms_norm_eps": 1e-5, "max_position_embeddings": 64}"#;

fn logits(model: &Model) -> Result<Tensor> {
    Ok(model.forward_once(&Tensor::new(&[[3u32, 1, 4, 1, 5, 92, 6]], &Device::Cpu)?)?.to_dtype(DType::F32)?)
}

fn opened(path: &Path, load: &Load) -> Result<Model> {
    Checkpoint::open(path)?.model(load)
}

/// What is wrong with a checkpoint, without the folder.
fn told(path: &Path) -> String {
    let said = opened(path, &Load::default()).map_or_else(|e| e.to_string(), |_| "a model".into());
    said.replace(&format!("{}/", path.display()), "").replace(&path.display().to_string(), "PATH")
}

#[test]
fn folders_of_one_or_several_files_give_the_logits_of_their_numbers() -> Result<()> {
    let (model, tensors) = random(LLAMA)?;
    let expected = logits(&model)?;
    for (dtype, most) in [(DType::F32, 100), (DType::F32, 5), (DType::BF16, 7), (DType::F16, 100)] {
        let scratch = Scratch::new(&format!("folder-{}-{most}", dtype.as_str()));
        let stored = tensors.iter().map(|(n, t)| Ok((n.clone(), t.to_dtype(dtype)?)));
        write_folder(&scratch.0, LLAMA, &stored.collect::<Result<Tensors>>()?, most)?;
        let model = opened(&scratch.0, &Load::default())?;
        assert_eq!(model.facts.dtype, dtype);
        let wide = opened(&scratch.0, &Load { dtype: Some(DType::F32), ..Load::default() })?;
        let off = largest_difference(&expected, &logits(&wide)?)?;
        let narrow = largest_difference(&logits(&wide)?, &logits(&model)?)?;
        match dtype {
            DType::F32 => assert_eq!((off, narrow), (0.0, 0.0)),
            DType::F16 => assert!(off < 0.02 && narrow < 0.02, "{off} {narrow}"),
            _ => assert!(off < 0.1 && narrow < 0.1, "{off} {narrow}"),
        }
    }
    Ok(())
}

#[test]
fn affine_codes_of_mlx_give_the_logits_of_what_they_stand_for() -> Result<()> {
    let (_, tensors) = random(LLAMA)?;
    let config = |bits: usize, group: usize| {
        let own = r#""lm_head": {"group_size": 32, "bits": 8}, "model.layers.1.self_attn.q_proj": false"#;
        LLAMA.replacen('{', &format!("{{\"quantization\": {{\"bits\": {bits}, \"group_size\": {group}, {own}}}, "), 1)
    };
    for (bits, group) in [(2, 64), (3, 64), (4, 32), (4, 64), (5, 64), (6, 64), (8, 128)] {
        let (mut packed, mut plain) = (Tensors::new(), Tensors::new());
        for (name, t) in &tensors {
            let here = match name.as_str() {
                "lm_head.weight" => Some((8, 32)),
                "model.layers.1.self_attn.q_proj.weight" => None,
                _ => (t.rank() == 2).then_some((bits, group)),
            };
            let Some((bits, group)) = here else {
                packed.insert(name.clone(), t.clone());
                plain.insert(name.clone(), t.clone());
                continue;
            };
            let [words, scales, biases] = <[Tensor; 3]>::try_from(quantize_affine(t, group, bits)?).expect("three");
            let numbers = dequantize_affine(&words, &scales, &biases, bits)?;
            plain.insert(name.clone(), numbers);
            let stem = name.trim_end_matches("weight");
            packed.extend([
                (name.clone(), words),
                (format!("{stem}scales"), scales),
                (format!("{stem}biases"), biases),
            ]);
        }
        let scratch = [Scratch::new(&format!("mlx-{bits}-{group}")), Scratch::new(&format!("plain-{bits}-{group}"))];
        write_folder(&scratch[0].0, &config(bits, group), &packed, 100)?;
        write_folder(&scratch[1].0, LLAMA, &plain, 100)?;
        let expected = logits(&opened(&scratch[1].0, &Load::default())?)?;
        let codes = opened(&scratch[0].0, &Load::default())?;
        assert!(codes.lm_head.as_ref().is_some_and(|h| h.matrix.format() == "affine 8 bits, groups of 32"));
        let dense = opened(&scratch[0].0, &Load { dequantize: true, ..Load::default() })?;
        assert!(largest_difference(&expected, &logits(&codes)?)? < 1e-4, "{bits} bits, groups of {group}");
        assert_eq!(largest_difference(&expected, &logits(&dense)?)?, 0.0);
    }
    Ok(())
}

#[test]
fn every_type_of_gguf_gives_the_logits_of_its_numbers() -> Result<()> {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let (model, tensors) = random(LLAMA)?;
    let expected = logits(&model)?;
    let config = serde_json::from_str(LLAMA).expect("json");
    let scratch = Scratch::new("gguf");
    for kind in [F32, F16, BF16, Q8_0, Q6K, Q5K, Q5_1, Q5_0, Q4K, Q4_1, Q4_0, Q3K, Q2K] {
        let file = scratch.0.join(format!("{kind:?}.gguf"));
        write_gguf(&file, &config, &tensors, kind)?;
        let dense = logits(&opened(&file, &Load { dequantize: true, ..Load::default() })?)?;
        let blocks = logits(&opened(&file, &Load::default())?)?;
        let off = largest_difference(&expected, &dense)?;
        // candle rounds the other factor to 8 bits beside blocks
        let rounded = largest_difference(&dense, &blocks)?;
        let most = match kind {
            F32 => 0.0,
            F16 => 0.01,
            BF16 => 0.1,
            Q8_0 => 0.2,
            Q6K => 0.5,
            _ => 4.0,
        };
        // but where blocks are codes too
        let most_rounded = if matches!(kind, Q4_0 | Q4_1 | Q8_0) { 1e-4 } else { 0.5 };
        assert!(off <= most && rounded < most_rounded, "{kind:?}: {off}, {rounded}");
    }
    Ok(())
}

#[test]
fn gguf_has_the_stretching_of_llama_3_as_numbers() -> Result<()> {
    let llama3 = r#""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}"#;
    let (model, mut tensors) = random(&LLAMA.replacen('{', &format!("{{{llama3}, "), 1))?;
    let plain = zmlx::rotary::Rotary::new(32, 1e4);
    let factors = plain.frequencies().iter().zip(model.ropes[0].frequencies()).map(|(a, b)| (a / b) as f32);
    tensors.insert("rope_freqs.weight".into(), Tensor::from_iter(factors, &Device::Cpu)?);
    let scratch = Scratch::new("llama3");
    let file = scratch.0.join("m.gguf");
    write_gguf(&file, &serde_json::from_str(LLAMA).expect("json"), &tensors, GgmlDType::F32)?;
    assert!(largest_difference(&logits(&model)?, &logits(&opened(&file, &Load::default())?)?)? < 1e-5);
    Ok(())
}

/// A process of its own, as its peak counts.
#[test]
#[cfg(target_os = "linux")]
fn loading_needs_the_memory_of_the_weights_and_a_tenth() -> Result<()> {
    const CHILD: &str = "ZMLX_LM_TEST_LOAD";
    let peak = || -> usize {
        let status = fs::read_to_string("/proc/self/status").expect("read");
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
    };
    if let Ok(path) = std::env::var(CHILD) {
        let before = peak();
        let mut model = opened(Path::new(&path), &Load::default())?;
        let mut bytes = 0;
        model.visit(&mut |block| match block {
            Block::Linear(l) => bytes += l.matrix.bytes(),
            Block::Embedding(e) => bytes += e.matrix.bytes(),
            _ => {}
        });
        println!("PEAK {} {bytes}", peak() - before);
        return Ok(());
    }
    // 87 M parameters
    let large =
        LLAMA.replace("256", "2048").replace("512", "5632").replace("\"vocab_size\": 100", "\"vocab_size\": 1000");
    let (_, tensors) = random(&large.replace("layers\": 2", "layers\": 1"))?;
    let large = large.replace("layers\": 2", "layers\": 1");
    let scratch = Scratch::new("memory");
    let narrow = tensors.iter().map(|(n, t)| Ok((n.clone(), t.to_dtype(DType::BF16)?)));
    write_folder(&scratch.0, &large, &narrow.collect::<Result<Tensors>>()?, 4)?;
    let gguf = scratch.0.join("m.gguf");
    write_gguf(&gguf, &serde_json::from_str(&large).expect("json"), &tensors, GgmlDType::Q4_1)?;
    for path in [&scratch.0, &gguf] {
        let this = std::env::current_exe().expect("a path");
        let test = "loading_needs_the_memory_of_the_weights_and_a_tenth";
        let output = std::process::Command::new(this).args([test, "--exact", "--nocapture"]).env(CHILD, path).output();
        let output = String::from_utf8(output.expect("it runs").stdout).expect("text");
        let line = output.lines().find_map(|l| l.split("PEAK ").nth(1)).unwrap_or_else(|| panic!("{output}"));
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
        // what the process needs besides is large beside such weights
        let most = 1.1 * numbers[1] + 6e6;
        println!("{}: {:.3} of the weights, {} bytes", path.display(), numbers[0] / numbers[1], numbers[1]);
        assert!(numbers[0] < most, "{}: {} bytes at most, for weights of {}", path.display(), numbers[0], numbers[1]);
    }
    Ok(())
}

#[test]
fn what_is_missing_left_over_or_of_another_shape_is_told_at_once() -> Result<()> {
    let (_, mut tensors) = random(LLAMA)?;
    tensors.remove("model.norm.weight");
    tensors.remove("model.layers.1.mlp.up_proj.weight");
    tensors.insert("model.layers.2.input_layernorm.weight".into(), Tensor::zeros(256, DType::F32, &Device::Cpu)?);
    tensors.insert("lm_head.weight".into(), Tensor::zeros((100, 255), DType::F32, &Device::Cpu)?);
    // not missed: transformers once wrote it
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    tensors.insert(name.into(), Tensor::zeros(16, DType::F32, &Device::Cpu)?);
    let scratch = Scratch::new("mistakes");
    write_folder(&scratch.0, LLAMA, &tensors, 100)?;
    assert_eq!(
        told(&scratch.0),
        "weights: 4 mistakes
  model.layers.1.mlp.up_proj.weight: missing, expected [512, 256]
  model.norm.weight: missing, expected [256]
  lm_head.weight: shape, expected [100, 256], got [100, 255]
  model.layers.2.input_layernorm.weight: not expected"
    );
    Ok(())
}

#[test]
fn a_folder_that_is_no_checkpoint_says_why() -> Result<()> {
    let scratch = Scratch::new("none");
    assert!(told(&scratch.0.join("nothing")).contains("No such file"));
    assert!(told(&scratch.0).starts_with("config.json: No such file"));
    let config = |text: &str| fs::write(scratch.0.join("config.json"), text).expect("written");
    config(LLAMA);
    assert_eq!(told(&scratch.0), "PATH: no *.safetensors, expected weights beside config.json");
    config(&LLAMA.replace("llama", "lama"));
    assert!(told(&scratch.0).starts_with("config.json: model_type, expected one of deepseek_v3, "));
    fs::write(scratch.0.join("model.safetensors"), "no").expect("written");
    config(LLAMA);
    assert!(told(&scratch.0).starts_with("model.safetensors: no safetensors: "), "{}", told(&scratch.0));
    fs::write(scratch.0.join("model.safetensors.index.json"), "{}").expect("written");
    assert!(told(&scratch.0).contains("no object weight_map"));
    let index = r#"{"weight_map": {"a": "../a.safetensors"}}"#;
    fs::write(scratch.0.join("model.safetensors.index.json"), index).expect("written");
    assert!(told(&scratch.0).contains("expected a name in this folder"));
    fs::write(scratch.0.join("x.gguf"), "GGUX").expect("written");
    assert_eq!(told(&scratch.0.join("x.gguf")), "PATH: no GGUF: it does not begin with GGUF");
    Ok(())
}

#[test]
fn absurd_configurations_are_refused_before_memory_is_asked_for() -> Result<()> {
    let (_, tensors) = random(LLAMA)?;
    let scratch = Scratch::new("absurd");
    write_folder(&scratch.0, LLAMA, &tensors, 100)?;
    let with = |from: &str, to: &str| {
        assert!(LLAMA.contains(from));
        fs::write(scratch.0.join("config.json"), LLAMA.replace(from, to)).expect("written");
        told(&scratch.0)
    };
    let sizes = "expected 1 to 16777216, got";
    assert_eq!(with("\"hidden_size\": 256", "\"hidden_size\": 0"), format!("config.json: hidden_size, {sizes} 0"));
    assert!(with("\"vocab_size\": 100", "\"vocab_size\": 99999999999").contains(sizes));
    assert!(with("layers\": 2", "layers\": 4097").contains("num_hidden_layers, expected 1 to 4096, got 4097"));
    assert!(
        with("heads\": 4", "heads\": 3").contains("num_attention_heads, expected a multiple of num_key_value_heads, 3")
    );
    assert!(with("heads\": 8", "heads\": 256").contains("head_dim, expected a multiple of a pair, 2, got 1"));
    assert!(with("\"hidden_size\": 256", "\"hidden_size\": -1").contains("invalid value"));
    assert!(with("\"hidden_size\": 256", "\"hidden\": 256").contains("missing field `hidden_size`"));
    assert!(
        with("\"vocab_size\": 100", "\"vocab_size\": 100, \"hidden_act\": \"mish\"")
            .contains("hidden_act, expected silu")
    );
    let rope =
        |scaling: &str| with("\"vocab_size\": 100", &format!("\"vocab_size\": 100, \"rope_scaling\": {scaling}"));
    assert!(rope(r#"{"rope_type": "new"}"#).contains("expected default, linear, llama3 or yarn, got new"));
    assert!(rope(r#"{"type": "linear"}"#).contains("rope_scaling.factor, expected a number, got null"));
    // 4,000 layers of a file that has two: told, and cut short
    assert!(with("layers\": 2", "layers\": 4000").contains("and 35"));
    Ok(())
}

/// A file that is cut off anywhere, or has a wrong bit in its head, gives an error or a model, and never a panic.
#[test]
fn damaged_files_give_an_error() -> Result<()> {
    let small = LLAMA
        .replace("layers\": 2", "layers\": 1")
        .replace("256", "32")
        .replace("512", "32")
        .replace("\"vocab_size\": 100", "\"vocab_size\": 32");
    let (_, tensors) = random(&small)?;
    let scratch = Scratch::new("damaged");
    write_folder(&scratch.0, &small, &tensors, 100)?;
    let gguf = scratch.0.join("m.gguf");
    write_gguf(&gguf, &serde_json::from_str(&small).expect("json"), &tensors, GgmlDType::Q4_0)?;
    for file in [scratch.0.join("model.safetensors"), gguf] {
        let whole = fs::read(&file).expect("read");
        let path = if file.extension().is_some_and(|e| e == "gguf") { file.clone() } else { scratch.0.clone() };
        assert_eq!(told(&path), "a model");
        for cut in (0..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
            fs::write(&file, &whole[..cut]).expect("written");
            let said = told(&path);
            assert!(said != "a model" && said.len() < 4000, "cut at {cut}: {said}");
        }
        let head = whole.len().min(3500);
        for bit in (0..head * 8).step_by(37) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &bytes).expect("written");
            let said = told(&path);
            assert!(!said.contains("panic") && said.len() < 8000, "bit {bit}: {said}");
        }
        fs::write(&file, &whole).expect("written");
    }
    Ok(())
}
