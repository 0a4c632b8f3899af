//! Names of tensors in GGUF files, as those of Hugging Face.

/// Outside of layers.
const WHOLE: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Inside of a layer. Experts are stacked, under the names that MLX has for them.
const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_exps", "mlp.switch_mlp.gate_proj"),
    ("ffn_up_exps", "mlp.switch_mlp.up_proj"),
    ("ffn_down_exps", "mlp.switch_mlp.down_proj"),
    ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
    ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
    ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
];

/// The name that Hugging Face has; one that is not known stays as it is.
pub fn from_gguf(name: &str) -> String {
    let Some((stem, last)) = name.rsplit_once('.') else { return name.into() };
    let of =
        |table: &[(&str, &'static str)], stem: &str| table.iter().find(|(from, _)| *from == stem).map(|(_, to)| *to);
    if let Some((layer, stem)) = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        return of(LAYER, stem).map_or_else(|| name.into(), |to| format!("model.layers.{layer}.{to}.{last}"));
    }
    of(WHOLE, stem).map_or_else(|| name.into(), |to| format!("{to}.{last}"))
}

#[cfg(test)]
mod tests {
    use super::from_gguf;

    #[test]
    fn names_are_those_of_hugging_face() {
        assert_eq!(from_gguf("token_embd.weight"), "model.embed_tokens.weight");
        assert_eq!(from_gguf("blk.11.attn_q.bias"), "model.layers.11.self_attn.q_proj.bias");
        assert_eq!(from_gguf("blk.0.ffn_down_exps.weight"), "model.layers.0.mlp.switch_mlp.down_proj.weight");
        assert_eq!(from_gguf("rope_freqs.weight"), "rope_freqs.weight");
        assert_eq!(from_gguf("blk.0.new.weight"), "blk.0.new.weight");
    }
}
