//! llama.cpp's names for our tensors, and its order of rows.

use super::tensor_type::TensorType;
use crate::model::config::{Family, TransformerConfig};
use std::borrow::Cow;

/// What a layer's parts are called here and there.
const PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The divisors of the rotary frequencies, where there are such.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// llama.cpp's name for one of our tensors.
pub(super) fn theirs(ours: &str) -> Option<String> {
    match ours {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, rest) = ours.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, end) = rest.rsplit_once('.')?;
    let (_, name) = PARTS.iter().find(|(ours, _)| *ours == part)?;
    Some(format!("blk.{layer}.{name}.{end}"))
}

/// Heads whose rows llama.cpp has in another order: a Llama's queries and keys, where it sets beside each other the two
/// that turn together. `None` where the order is ours.
pub(super) fn turned_heads(config: &TransformerConfig, ours: &str) -> Option<usize> {
    if config.family != Family::Llama {
        return None;
    }
    if ours.contains("self_attn.q_proj.") {
        Some(config.num_attention_heads)
    } else if ours.contains("self_attn.k_proj.") {
        Some(config.num_key_value_heads)
    } else {
        None
    }
}

/// Rows in the other order: `heads` heads, within each the halves' rows by turns (`ours` false) or one half after the
/// other (`ours` true). `width` is a row's length.
pub(super) fn reordered<T: Copy>(rows: &[T], width: usize, heads: usize, ours: bool) -> Vec<T> {
    let dim = rows.len() / width / heads;
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(dim * width) {
        for row in 0..dim {
            let from =
                if ours { row % (dim / 2) * 2 + row / (dim / 2) } else { row % 2 * (dim / 2) + row / 2 };
            out.extend_from_slice(&head[from * width..][..width]);
        }
    }
    out
}

/// A tensor's blocks with its rows in our order. A row must be whole blocks.
pub(super) fn in_our_order<'a>(
    data: &'a [u8],
    kind: TensorType,
    rows: usize,
    heads: Option<usize>,
) -> Option<Cow<'a, [u8]>> {
    let Some(heads) = heads else { return Some(Cow::Borrowed(data)) };
    let width = data.len() / rows;
    let whole = width.is_multiple_of(kind.block_bytes()) && rows.is_multiple_of(2 * heads);
    whole.then(|| Cow::Owned(reordered(data, width, heads, true)))
}
