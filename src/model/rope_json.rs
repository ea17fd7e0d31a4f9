//! How positions are stretched, as `config.json` says it.

use super::config_json::supported;
use super::rope_scaling::RopeScaling;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// `rope_parameters`, or `rope_scaling` as older versions write it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RopeParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rope_theta: Option<f32>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    #[serde(skip_serializing)]
    partial_rotary_factor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_factor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_fast: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta_slow: Option<f32>,
    #[serde(skip_serializing)]
    mscale: Option<f32>,
    #[serde(skip_serializing)]
    mscale_all_dim: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    short_factor: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    long_factor: Option<Vec<f32>>,
}

impl RopeParameters {
    /// `field` is where this stands; `context` is the first context where it is not said.
    pub(super) fn scaling(self, file: &str, field: &str, context: usize) -> Result<Option<RopeScaling>> {
        let missing = |name: &str| {
            let remedy = "copy config.json again";
            Error::config(file, format!("{field}.{name}"), "the value is missing", remedy)
        };
        supported(
            file,
            &[(field, self.partial_rotary_factor.is_none_or(|f| f == 1.0), "is of a part only")],
        )?;
        let original_max_position_embeddings = self.original_max_position_embeddings.unwrap_or(context);
        let factor = self.factor.ok_or_else(|| missing("factor"));
        Ok(Some(match self.rope_type.as_deref().unwrap_or("default") {
            "default" => return Ok(None),
            "linear" => RopeScaling::Linear { factor: factor? },
            "llama3" => RopeScaling::Llama3 {
                factor: factor?,
                low_freq_factor: self.low_freq_factor.ok_or_else(|| missing("low_freq_factor"))?,
                high_freq_factor: self.high_freq_factor.ok_or_else(|| missing("high_freq_factor"))?,
                original_max_position_embeddings,
            },
            "yarn" => {
                let factor = factor?;
                let sharpened = |scale: f32| (RopeScaling::yarn_attention(factor) - 1.0) * scale + 1.0;
                let inferred = match (self.mscale, self.mscale_all_dim) {
                    (Some(of), Some(all)) if of != 0.0 && all != 0.0 => sharpened(of) / sharpened(all),
                    _ => sharpened(1.0),
                };
                RopeScaling::Yarn {
                    factor,
                    original_max_position_embeddings,
                    beta_fast: self.beta_fast.unwrap_or(32.0),
                    beta_slow: self.beta_slow.unwrap_or(1.0),
                    attention_factor: self.attention_factor.unwrap_or(inferred),
                    truncate: self.truncate.unwrap_or(true),
                }
            }
            // The same factors for every length, as we write them.
            "longrope" if self.attention_factor == Some(1.0) && self.short_factor == self.long_factor => {
                RopeScaling::Factors(self.long_factor.ok_or_else(|| missing("long_factor"))?)
            }
            other => {
                let reason = format!("the scaling of positions `{other}` is not supported");
                return Err(Error::config(file, field, reason, "use a model with linear, llama3 or yarn"));
            }
        }))
    }

    pub(super) fn of(scaling: &RopeScaling, context: usize) -> Self {
        match scaling.clone() {
            RopeScaling::Linear { factor } => {
                Self { rope_type: Some("linear".into()), factor: Some(factor), ..Self::default() }
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => Self {
                rope_type: Some("llama3".into()),
                factor: Some(factor),
                low_freq_factor: Some(low_freq_factor),
                high_freq_factor: Some(high_freq_factor),
                original_max_position_embeddings: Some(original_max_position_embeddings),
                ..Self::default()
            },
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => Self {
                rope_type: Some("yarn".into()),
                factor: Some(factor),
                original_max_position_embeddings: Some(original_max_position_embeddings),
                beta_fast: Some(beta_fast),
                beta_slow: Some(beta_slow),
                attention_factor: Some(attention_factor),
                truncate: Some(truncate),
                ..Self::default()
            },
            RopeScaling::Factors(factors) => Self {
                rope_type: Some("longrope".into()),
                factor: Some(1.0),
                attention_factor: Some(1.0),
                original_max_position_embeddings: Some(context),
                short_factor: Some(factors.clone()),
                long_factor: Some(factors),
                ..Self::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::TransformerConfig;
    use std::path::PathBuf;

    #[derive(serde::Deserialize)]
    struct Case {
        config: serde_json::Value,
        frequencies: Vec<f64>,
        attention_factor: f32,
    }

    /// What `transformers` computes (`benches/peers/rope_scaling.py`).
    fn cases() -> Vec<Case> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/rope_scaling.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn frequencies_are_those_of_transformers() {
        for Case { config, frequencies, attention_factor } in cases() {
            let ours = TransformerConfig::from_json(config.to_string().as_bytes(), "c").unwrap();
            let (found, scale) = ours.rotary_frequencies();
            assert_eq!(found.len(), frequencies.len());
            for (a, b) in found.iter().zip(&frequencies) {
                assert!((a / b - 1.0).abs() < 1e-5, "{:?}: {found:?} {frequencies:?}", ours.rope_scaling);
            }
            assert!((scale - attention_factor).abs() < 1e-6, "{:?}", ours.rope_scaling);
            let back = TransformerConfig::from_json(&ours.to_json(false).unwrap(), "c").unwrap();
            assert_eq!(back, ours);
        }
    }

    #[test]
    fn what_is_not_run_or_makes_no_sense_is_refused_by_field() {
        let first = cases().remove(0).config;
        let error = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut config = first.clone();
            config["rope_parameters"] = serde_json::Value::Null;
            change(&mut config);
            TransformerConfig::from_json(config.to_string().as_bytes(), "c").err().map(|e| e.to_string())
        };
        let scaling = |json: &str| {
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            error(&|config| config["rope_scaling"] = json.clone()).unwrap()
        };
        assert!(scaling(r#"{"type": "dynamic", "factor": 2.0}"#).contains("dynamic"));
        assert!(scaling(r#"{"type": "linear"}"#).contains("rope_scaling.factor"));
        assert!(scaling(r#"{"type": "linear", "factor": -1.0}"#).contains("factor"));
        assert!(scaling(r#"{"rope_type": "llama3", "factor": 8.0}"#).contains("low_freq_factor"));
        let text = r#"{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}"#;
        assert!(scaling(text).contains("original_max_position_embeddings"));
        let text = r#"{"rope_type": "yarn", "factor": 4.0, "beta_fast": 1.0, "beta_slow": 2.0}"#;
        assert!(scaling(text).contains("beta_fast"));
        // A window that is set and not used is no reason to refuse a model.
        let window = |length: u64, first: u64| {
            error(&|config| {
                config["model_type"] = "qwen2".into();
                config["use_sliding_window"] = true.into();
                config["sliding_window"] = length.into();
                config["max_window_layers"] = first.into();
            })
        };
        assert!(window(8, 0).unwrap().contains("use_sliding_window"));
        assert_eq!([window(1 << 20, 0), window(8, 2)], [None, None]);
        let layers = error(&|config| config["layer_types"] = serde_json::json!(["sliding_attention"]));
        assert!(layers.unwrap().contains("layer_types"));
    }
}
