use super::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Cases {
    templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Vec<Message>,
    prompt: bool,
    /// What `transformers` makes of them, unless it refuses.
    text: Option<String>,
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "<s>", "</s>", "t.json").unwrap()
}

#[test]
fn conversations_are_laid_out_as_transformers_does() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/chat_templates.json");
    let Cases { templates, cases } = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for Case { name, messages, prompt, text } in cases {
        let ours = template(&templates[&name]).render(&messages, prompt);
        match text {
            Some(text) => assert_eq!(ours.unwrap(), text, "{name}"),
            None => assert!(ours.unwrap_err().to_string().contains("alternate"), "{name}"),
        }
    }
}

fn refused(source: &str) -> String {
    let made = ChatTemplate::new(source, "<s>", "</s>", "t.json");
    let error =
        made.and_then(|template| template.render(&[Message::new("user", "hello")], true)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("t.json") && text.contains("chat_template") && text.len() < 1000, "{text}");
    text
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    assert!(refused("\n{% for m in messages %}").contains("chat_template:2"));
    assert!(refused("\n\n{{ nothing.at.all }}").contains("chat_template:3"));
    assert!(refused("{{ messages | no_such_filter }}").contains("no_such_filter"));
    assert!(refused("{{ raise_exception('only users') }}").contains("only users"));
    assert!(refused("{% include 'other' %}").contains("chat_template:1"));
    assert!(refused(&"x".repeat(1 << 21)).contains("bytes"));
}

#[test]
fn a_hostile_template_ends_with_an_error() {
    let work = "more work than";
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for a in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='a') %}{% for a in range(60) %}{% set ns.s = ns.s.replace('a', 'aa') %}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for a in range(60) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for a in range(60) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    ] {
        let text = refused(source);
        assert!(text.contains(work) || text.contains("too large"), "{source}: {text}");
    }
    assert!(refused("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}").contains("recursion"));
    assert!(refused("{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}").contains("recursion"));
    let nested =
        "{% set ns = namespace(s=[1]) %}{% for a in range(40) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}";
    assert!(refused(&format!("{nested}{{{{ ns.s | tojson }}}}")).contains("JSON"));
    assert!(refused(&format!("{nested}{{{{ ns.s }}}}")).contains("no text"));
    refused(&format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)));
    refused(&"{% if true %}".repeat(20_000));
}

#[test]
fn long_conversations_are_no_hostile_ones() {
    let chatml =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}";
    let messages = vec![Message::new("user", "x".repeat(1000)); 2000];
    assert!(template(chatml).render(&messages, true).unwrap().len() > 2_000_000);
}

#[test]
fn the_template_of_a_tokenizers_config_is_found() {
    let found = |text: &str| ChatTemplate::source_of(&serde_json::from_str(text).unwrap());
    assert_eq!(found(r#"{"bos_token": "<s>"}"#), None);
    assert_eq!(found(r#"{"chat_template": "one"}"#).as_deref(), Some("one"));
    let many =
        r#"{"chat_template": [{"name": "tool", "template": "a"}, {"name": "default", "template": "b"}]}"#;
    assert_eq!(found(many).as_deref(), Some("b"));
}
