//! `config.json`, as Hugging Face writes it for each architecture.

use super::config::{Activation, Family, TransformerConfig};
use super::model_config::RecurrentConfig;
use super::rope_json::RopeParameters;
use crate::error::{Error, Result};
use crate::nn::tape::Cell;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `config.json` of the Llama family: our fields and those that say whose architecture it is.
#[derive(Serialize, Deserialize)]
struct Llama {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: String,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    rope_scaling: Option<RopeParameters>,
    #[serde(default)]
    torch_dtype: Option<String>,
    #[serde(default)]
    bos_token_id: Option<Value>,
    #[serde(default)]
    eos_token_id: Option<Value>,
    #[serde(default)]
    pad_token_id: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    use_sliding_window: Option<bool>,
    #[serde(default, skip_serializing)]
    sliding_window: Option<usize>,
    #[serde(default, skip_serializing)]
    max_window_layers: Option<usize>,
    #[serde(default, skip_serializing)]
    layer_types: Option<Vec<String>>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default)]
    rope_theta: Option<f32>,
    /// Where newer versions of `transformers` keep `rope_theta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_parameters: Option<RopeParameters>,
    /// Where a few models keep the first context.
    #[serde(default, skip_serializing)]
    original_max_position_embeddings: Option<usize>,
    rms_norm_eps: f32,
    #[serde(default)]
    tie_word_embeddings: bool,
}

/// `config.json` of GPT-2.
#[derive(Serialize, Deserialize)]
struct Gpt2 {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: String,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default)]
    torch_dtype: Option<String>,
    #[serde(default)]
    bos_token_id: Option<Value>,
    #[serde(default)]
    eos_token_id: Option<Value>,
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    #[serde(default)]
    n_inner: Option<usize>,
    layer_norm_epsilon: f32,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
    /// Ours: false where every bias is zero and stays so (nanoGPT's `bias=False`).
    #[serde(default = "yes")]
    skald_bias: bool,
    #[serde(default)]
    resid_pdrop: f32,
    #[serde(default)]
    embd_pdrop: f32,
    #[serde(default)]
    attn_pdrop: f32,
}

fn yes() -> bool {
    true
}

fn silu() -> String {
    "silu".into()
}

fn gelu_new() -> String {
    "gelu_new".into()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], file: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Syntax {
        file: file.into(),
        line: e.line(),
        column: e.column(),
        reason: e.to_string().split(" at line ").next().unwrap_or("not JSON").to_owned(),
        remedy: "give the config.json of a Llama, Qwen2, Qwen3, SmolLM or GPT-2 model".into(),
    })
}

/// The first claim that does not hold is an error.
pub(super) fn supported(file: &str, claims: &[(&str, bool, &str)]) -> Result<()> {
    match claims.iter().find(|(_, good, _)| !good) {
        Some((field, _, what)) => {
            let reason = format!("the value {what}, which is not supported");
            let remedy = "use a plain Llama, Qwen2, Qwen3, SmolLM or GPT-2 model";
            Err(Error::config(file, *field, reason, remedy))
        }
        None => Ok(()),
    }
}

/// What kind of model a `config.json` says it is.
pub(super) fn model_type(bytes: &[u8], file: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: String,
    }
    Ok(read::<Kind>(bytes, file)?.model_type)
}

pub(super) fn transformer_from_json(bytes: &[u8], file: &str) -> Result<TransformerConfig> {
    let kind = model_type(bytes, file)?;
    let family = match kind.as_str() {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        "gpt2" => return gpt2_from_json(bytes, file),
        other => {
            let reason = format!("`{other}` is not supported");
            let remedy = "use a Llama, Qwen2, Qwen3, SmolLM or GPT-2 model";
            return Err(Error::config(file, "model_type", reason, remedy));
        }
    };
    let disk: Llama = read(bytes, file)?;
    // A window is used where one is set, is shorter than the context, and some layer lies beyond those without.
    let window = disk.use_sliding_window == Some(true)
        && disk.sliding_window.is_some_and(|window| window < disk.max_position_embeddings)
        && disk.max_window_layers.is_none_or(|first| first < disk.num_hidden_layers);
    let slides = disk.layer_types.iter().flatten().any(|kind| kind != "full_attention");
    supported(
        file,
        &[
            ("hidden_act", disk.hidden_act == "silu", "is not `silu`"),
            ("use_sliding_window", !window, "is true and the window shorter than the context"),
            ("layer_types", !slides, "has other layers than `full_attention`"),
        ],
    )?;
    let heads = disk.num_attention_heads;
    let theta = disk.rope_theta.or(disk.rope_parameters.as_ref().and_then(|rope| rope.rope_theta));
    let context = disk.original_max_position_embeddings.unwrap_or(disk.max_position_embeddings);
    let mut rope_scaling = None;
    for (field, rope) in [("rope_parameters", disk.rope_parameters), ("rope_scaling", disk.rope_scaling)] {
        if let Some(rope) = rope {
            rope_scaling = rope_scaling.or(rope.scaling(file, field, context)?);
        }
    }
    let config = TransformerConfig {
        family,
        vocab_size: disk.vocab_size,
        hidden_size: disk.hidden_size,
        intermediate_size: disk.intermediate_size,
        num_hidden_layers: disk.num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: disk.num_key_value_heads.unwrap_or(heads),
        head_dim: disk.head_dim.unwrap_or_else(|| disk.hidden_size.checked_div(heads).unwrap_or(0)),
        max_position_embeddings: disk.max_position_embeddings,
        rope_theta: theta.unwrap_or(10_000.0),
        rope_scaling,
        rms_norm_eps: disk.rms_norm_eps,
        tie_word_embeddings: disk.tie_word_embeddings,
        activation: Activation::SwiGlu,
        bias: disk.attention_bias && family != Family::Qwen2,
        mlp_bias: disk.mlp_bias && family == Family::Llama,
    };
    config.validate(file)?;
    Ok(config)
}

fn gpt2_from_json(bytes: &[u8], file: &str) -> Result<TransformerConfig> {
    let disk: Gpt2 = read(bytes, file)?;
    let activation = match disk.activation_function.as_str() {
        "gelu" => Some(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
        _ => None,
    };
    supported(
        file,
        &[
            ("activation_function", activation.is_some(), "is not `gelu_new` or `gelu`"),
            (
                "n_head",
                disk.n_head == 0 || disk.n_embd.is_multiple_of(disk.n_head),
                "does not divide `n_embd`",
            ),
            ("scale_attn_weights", disk.scale_attn_weights, "is false"),
            ("scale_attn_by_inverse_layer_idx", !disk.scale_attn_by_inverse_layer_idx, "is true"),
            ("add_cross_attention", !disk.add_cross_attention, "is true"),
        ],
    )?;
    let config = TransformerConfig {
        family: Family::Gpt2,
        vocab_size: disk.vocab_size,
        hidden_size: disk.n_embd,
        intermediate_size: disk.n_inner.unwrap_or(disk.n_embd.saturating_mul(4)),
        num_hidden_layers: disk.n_layer,
        num_attention_heads: disk.n_head,
        num_key_value_heads: disk.n_head,
        head_dim: disk.n_embd.checked_div(disk.n_head).unwrap_or(0),
        max_position_embeddings: disk.n_positions,
        rope_theta: 10_000.0,
        rope_scaling: None,
        rms_norm_eps: disk.layer_norm_epsilon,
        tie_word_embeddings: disk.tie_word_embeddings,
        activation: activation.unwrap_or(Activation::GeluTanh),
        bias: disk.skald_bias,
        mlp_bias: false,
    };
    config.validate(file)?;
    Ok(config)
}

pub(super) fn transformer_to_json(config: &TransformerConfig, half: bool) -> Result<Vec<u8>> {
    let dtype = Some(if half { "float16" } else { "float32" }.to_owned());
    let (bos, eos) = (Some(Value::from(1)), Some(Value::from(2)));
    let (kind, class) = match config.family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        Family::Gpt2 => ("gpt2", "GPT2LMHeadModel"),
    };
    let architectures = vec![class.to_owned()];
    let written = if config.family == Family::Gpt2 {
        serde_json::to_vec_pretty(&Gpt2 {
            architectures,
            model_type: kind.into(),
            activation_function: if config.activation == Activation::Gelu { "gelu" } else { "gelu_new" }
                .into(),
            torch_dtype: dtype,
            bos_token_id: bos,
            eos_token_id: eos,
            vocab_size: config.vocab_size,
            n_positions: config.max_position_embeddings,
            n_embd: config.hidden_size,
            n_layer: config.num_hidden_layers,
            n_head: config.num_attention_heads,
            n_inner: Some(config.intermediate_size),
            layer_norm_epsilon: config.rms_norm_eps,
            tie_word_embeddings: config.tie_word_embeddings,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            add_cross_attention: false,
            skald_bias: config.bias,
            resid_pdrop: 0.0,
            embd_pdrop: 0.0,
            attn_pdrop: 0.0,
        })
    } else {
        serde_json::to_vec_pretty(&Llama {
            architectures,
            model_type: kind.into(),
            hidden_act: silu(),
            attention_bias: config.qkv_bias(),
            mlp_bias: config.mlp_bias,
            rope_scaling: config
                .rope_scaling
                .as_ref()
                .map(|scaling| RopeParameters::of(scaling, config.max_position_embeddings)),
            torch_dtype: dtype,
            bos_token_id: bos,
            eos_token_id: eos,
            pad_token_id: Some(Value::from(0)),
            use_sliding_window: None,
            sliding_window: None,
            max_window_layers: None,
            layer_types: None,
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: Some(config.num_key_value_heads),
            head_dim: Some(config.head_dim),
            max_position_embeddings: config.max_position_embeddings,
            rope_theta: Some(config.rope_theta),
            rope_parameters: None,
            original_max_position_embeddings: None,
            rms_norm_eps: config.rms_norm_eps,
            tie_word_embeddings: config.tie_word_embeddings,
        })
    };
    written.map_err(|e| Error::backend("writing config.json", e))
}

/// `config.json` of our recurrent networks.
#[derive(Serialize, Deserialize)]
struct Recurrent {
    model_type: String,
    #[serde(default)]
    torch_dtype: Option<String>,
    vocab_size: usize,
    embedding_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    max_position_embeddings: usize,
    #[serde(default)]
    tie_word_embeddings: bool,
}

const CELLS: [(&str, Cell); 3] =
    [("skald_rnn", Cell::Rnn), ("skald_gru", Cell::Gru), ("skald_lstm", Cell::Lstm)];

pub(super) fn recurrent_from_json(bytes: &[u8], file: &str) -> Result<RecurrentConfig> {
    let disk: Recurrent = read(bytes, file)?;
    let Some((_, cell)) = CELLS.iter().find(|(name, _)| *name == disk.model_type) else {
        let reason = format!("`{}` is not supported", disk.model_type);
        return Err(Error::config(file, "model_type", reason, "use skald_rnn, skald_gru or skald_lstm"));
    };
    let config = RecurrentConfig {
        cell: *cell,
        vocab_size: disk.vocab_size,
        embedding_size: disk.embedding_size,
        hidden_size: disk.hidden_size,
        num_hidden_layers: disk.num_hidden_layers,
        max_position_embeddings: disk.max_position_embeddings,
        tie_word_embeddings: disk.tie_word_embeddings,
    };
    config.validate(file)?;
    Ok(config)
}

pub(super) fn recurrent_to_json(config: &RecurrentConfig, half: bool) -> Result<Vec<u8>> {
    let name = CELLS.iter().find(|(_, cell)| *cell == config.cell).map_or("", |(name, _)| name);
    let disk = Recurrent {
        model_type: name.to_owned(),
        torch_dtype: Some(if half { "float16" } else { "float32" }.to_owned()),
        vocab_size: config.vocab_size,
        embedding_size: config.embedding_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        max_position_embeddings: config.max_position_embeddings,
        tie_word_embeddings: config.tie_word_embeddings,
    };
    serde_json::to_vec_pretty(&disk).map_err(|e| Error::backend("writing config.json", e))
}
