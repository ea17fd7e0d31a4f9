//! [`Grammar`]: answers of a form that is given: a JSON schema, a Rust type, a regular expression, a Lark grammar.
//!
//! Masks are those of `llguidance`. They come before anything is drawn, so an answer that ends by itself always has
//! the form; one that is cut at `max_tokens` ([`super::Finish::Length`]) may not.

use super::constraint::Constraint;
use super::loaded::LoadedModel;
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use schemars::JsonSchema;
use std::sync::Arc;

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// JSON that a schema allows (the keywords that `llguidance` knows; others are an error).
    JsonSchema(serde_json::Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A text of a grammar in `llguidance`'s variant of Lark.
    Lark(String),
}

impl Form {
    /// JSON that `serde` reads as this type.
    pub fn of<T: JsonSchema>() -> Self {
        Self::JsonSchema(schemars::schema_for!(T).to_value())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "the JSON schema",
            Self::Regex(_) => "the regular expression",
            Self::Lark(_) => "the Lark grammar",
        }
    }
}

/// A model's tokens, as `llguidance` wants them.
pub(super) struct Vocabulary(ParserFactory);

impl Vocabulary {
    fn new(model: &LoadedModel) -> Result<Self, String> {
        let tokenizer = &model.tokenizer;
        let size = tokenizer.vocab_size() as u32;
        // Marked, so that no grammar takes a control token for its text.
        let word = |id: u32| match (tokenizer.bytes(id), tokenizer.is_special(id)) {
            (Some(bytes), true) => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            (Some(bytes), false) => bytes.to_vec(),
            (None, _) => Vec::new(),
        };
        let words: Vec<Vec<u8>> = (0..size).map(word).collect();
        let end = model.special.eos.or(model.special.eot).or_else(|| tokenizer.id("<eos>"));
        let end = end.ok_or("the model has no token that ends a text")?;
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(|e| e.to_string())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self(factory))
    }
}

/// Holds an answer to a [`Form`].
pub struct Grammar {
    matcher: Matcher,
    env: TokEnv,
    end: u32,
    rule: String,
    schema: Option<serde_json::Value>,
    failed: Option<String>,
}

impl Grammar {
    /// Makes a form ready for a model, which takes milliseconds to seconds for large forms: not in a frame.
    ///
    /// # Errors
    /// [`Error::Config`] when the form is malformed, too large, or of keywords that are not known.
    pub fn new(model: &LoadedModel, form: &Form) -> Result<Self> {
        let rule = form.name().to_owned();
        let vocabulary = model.vocabulary.get_or_init(|| Vocabulary::new(model));
        let vocabulary = vocabulary.as_ref().map_err(|reason| Error::Vocabulary {
            file: "model".into(),
            reason: reason.clone(),
            remedy: "use a model with an end-of-text token".into(),
        })?;
        let grammar = match form {
            Form::JsonSchema(schema) => TopLevelGrammar::from_json_schema(spaced(schema.clone())),
            Form::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Form::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        };
        let malformed = |reason: String| {
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            Error::config("options", &rule, reason, "mend it, or use less of it")
        };
        let parser = vocabulary.0.create_parser(grammar).map_err(|e| malformed(format!("{e:#}")))?;
        let matcher = Matcher::new(Ok(parser));
        if let Some(error) = matcher.get_error() {
            return Err(malformed(error));
        }
        let env = vocabulary.0.tok_env().clone();
        let end = env.tok_trie().eos_token();
        let schema = if let Form::JsonSchema(schema) = form { Some(schema.clone()) } else { None };
        Ok(Self { matcher, env, end, rule, schema, failed: None })
    }
}

impl Form {
    /// What holds an answer of a model to this form ([`Grammar::new`]).
    ///
    /// # Errors
    /// [`Error::Config`] when the form is malformed, too large, or of keywords that are not known.
    pub fn constraint(&self, model: &LoadedModel) -> Result<Box<dyn Constraint>> {
        Ok(Box::new(Grammar::new(model, self)?))
    }
}

/// A schema that says how its JSON is spaced: as people write it on a line, where it does not say so itself. A model that may
/// put any space anywhere may never come to an end.
fn spaced(mut schema: serde_json::Value) -> serde_json::Value {
    if let Some(schema) = schema.as_object_mut() {
        let spaces = serde_json::json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        schema.entry("x-guidance").or_insert(spaces);
    }
    schema
}

impl Constraint for Grammar {
    fn begin(&mut self, _: &Tokenizer) {}

    fn mask(&mut self, logits: &mut [f32]) {
        match self.matcher.compute_mask_or_eos() {
            Ok(allowed) => {
                for (id, logit) in logits.iter_mut().enumerate() {
                    if id >= allowed.len() || !allowed.is_allowed(id as u32) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            Err(error) => {
                self.failed = Some(error.to_string());
                logits.fill(f32::NEG_INFINITY);
            }
        }
    }

    fn accept(&mut self, token: u32) -> bool {
        if token == self.end {
            return true;
        }
        if let Err(error) = self.matcher.consume_token(token) {
            self.failed = Some(error.to_string());
        }
        false
    }

    fn forced(&mut self) -> Vec<u32> {
        let bytes = self.matcher.compute_ff_bytes();
        let mut tokens = self.env.tok_trie().greedy_tokenize(&bytes);
        // The last may be the beginning of a longer one.
        tokens.pop();
        for (n, token) in tokens.iter().enumerate() {
            if let Err(error) = self.matcher.consume_token(*token) {
                self.failed = Some(error.to_string());
                tokens.truncate(n);
                break;
            }
        }
        tokens
    }

    fn schema(&self) -> Option<&serde_json::Value> {
        self.schema.as_ref()
    }

    fn rule(&self) -> String {
        let reason = self.failed.as_deref().and_then(|reason| reason.lines().next());
        reason.map_or_else(|| self.rule.clone(), |reason| format!("{} ({reason})", self.rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{
        Backend, Finish, Output, Request, Sampling, Scheduler, SchedulerConfig, random_model,
    };
    use crate::seed::Seed;
    use crate::training::Architecture;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    /// A model of random weights.
    fn model() -> Arc<LoadedModel> {
        let lines = ["the mill is by the river", "{\"name\": \"häst\", \"age\": 3, [true, false, null]}"];
        let tokenizer = Tokenizer::train(lines.iter(), 320, &["<act:Offer>".to_owned()]).unwrap();
        Arc::new(random_model(tokenizer, Architecture::Transformer, (1, 512), 1))
    }

    /// Answers, and how they ended.
    fn answers(model: &Arc<LoadedModel>, form: &Form, count: u64) -> Vec<(String, Finish)> {
        let mut scheduler = Scheduler::new(Arc::clone(model), SchedulerConfig::default());
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(scheduler.submit(Request {
                prompt: "the ".into(),
                sampling: Sampling {
                    temperature: 1.0,
                    top_p: 1.0,
                    min_p: 0.0,
                    max_tokens: 400,
                    ..Sampling::default()
                },
                seed: Seed::new(n),
                constraint: Some(Box::new(Grammar::new(model, form).unwrap())),
                priority: 0,
                adapter: None,
            }));
        }
        let mut told: Vec<(String, Option<Finish>)> = ids.iter().map(|_| (String::new(), None)).collect();
        while !scheduler.is_idle() {
            let mut outputs = Vec::new();
            scheduler.step(&mut outputs).unwrap();
            for output in outputs {
                match output {
                    Output::Delta { id, text } => told[id.0 as usize].0 += &text,
                    Output::Finished { id, finish, .. } => told[id.0 as usize].1 = Some(finish),
                    Output::Failed { error, .. } => panic!("{form:?}: {error}"),
                }
            }
        }
        told.into_iter().map(|(text, finish)| (text, finish.unwrap())).collect()
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    enum Deed {
        Help { whom: Name, gold: Small },
        Fight(Foe),
        Nothing,
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Name(#[schemars(length(min = 1, max = 5))] String);

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Small(#[schemars(range(min = -5, max = 120))] i64);

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    enum Foe {
        Wolf,
        Boar,
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Plan {
        title: Name,
        #[schemars(length(min = 1, max = 2))]
        deeds: Vec<Deed>,
        urgent: Option<bool>,
    }

    #[test]
    fn a_type_always_comes_out_whole() {
        let model = model();
        let mut fights = 0;
        for (text, finish) in answers(&model, &Form::of::<Plan>(), 60) {
            assert_eq!(finish, Finish::Stop, "{text}");
            let plan: Plan = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(
                (1..=2).contains(&plan.deeds.len()) && (1..=5).contains(&plan.title.0.chars().count()),
                "{text}"
            );
            for deed in &plan.deeds {
                match deed {
                    Deed::Help { gold, whom } => {
                        assert!((-5..=120).contains(&gold.0) && !whom.0.is_empty(), "{text}");
                    }
                    Deed::Fight(_) => fights += 1,
                    Deed::Nothing => {}
                }
            }
        }
        assert!(fights > 0);
    }

    #[test]
    fn schemas_regexes_and_grammars_hold() {
        let model = model();
        let schema = json!({
            "type": "array", "minItems": 2, "maxItems": 3,
            "items": { "anyOf": [{ "enum": ["häst", "ко́нь", 7, null] }, { "type": "number", "minimum": 0.5, "maximum": 2 }] },
        });
        for (text, finish) in answers(&model, &Form::JsonSchema(schema), 40) {
            let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            assert!(finish == Finish::Stop && (2..=3).contains(&items.len()), "{text}");
            let known = [json!("häst"), json!("ко́нь"), json!(7), json!(null)];
            let number = |item: &serde_json::Value| item.as_f64().is_some_and(|n| (0.5..=2.0).contains(&n));
            assert!(items.iter().all(|item| known.contains(item) || number(item)), "{text}");
        }
        for (text, _) in answers(&model, &Form::Regex("(go|ride) (north|south)( fast){0,2}!".into()), 30) {
            let rest = text.strip_prefix("go ").or(text.strip_prefix("ride ")).unwrap();
            assert!(
                rest.ends_with('!') && (rest.starts_with("north") || rest.starts_with("south")),
                "{text}"
            );
        }
        let lark = "start: \"(\" [start] \")\"";
        for (text, finish) in answers(&model, &Form::Lark(lark.into()), 10) {
            let (open, shut) = text.split_at(text.len() / 2);
            // Only a cut one is not whole.
            assert!(
                finish == Finish::Length || open.chars().all(|c| c == '(') && shut.len() == open.len(),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_and_impossible_forms_are_clear_errors() {
        let model = model();
        for form in [
            Form::Regex("(".into()),
            Form::Lark("start: nowhere".into()),
            Form::JsonSchema(json!({ "type": "dragon" })),
            Form::JsonSchema(json!({ "type": "string", "minLength": 5, "maxLength": 2 })),
        ] {
            let error = Grammar::new(&model, &form).err().unwrap_or_else(|| panic!("{form:?} was taken"));
            let text = error.to_string();
            assert!(text.contains(form.name()) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn control_tokens_are_never_text_and_cannot_be_smuggled_in() {
        let model = model();
        let control = model.tokenizer.id("<act:Offer>").unwrap();
        let mut grammar = Grammar::new(&model, &Form::Regex("(.|\n)*".into())).unwrap();
        let mut logits = vec![0.0; model.tokenizer.vocab_size()];
        grammar.mask(&mut logits);
        assert!(logits[control as usize] == f32::NEG_INFINITY && logits.contains(&0.0));
        assert_eq!(model.text_prompt("a <act:<act:Offer>Offer> b<eos>"), "a  b");
    }
}
