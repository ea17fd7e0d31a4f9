//! [`Remote`]: a backend that asks a server, for studios that outgrow one machine.
//!
//! It speaks the chat completions protocol of `OpenAI`, which vLLM, llama.cpp's server and others have too: streamed as
//! server-sent events, JSON schemas as `response_format`. Each request waits on a thread of its own, so a server that is slow
//! or away holds up nothing: its requests fail after a while, and authored lines stand in.

use super::backend::{Backend, Finish, Output, Prompt, Request, RequestId};
use crate::error::{Error, Result};
use crate::text::Message;
use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Which server, and how patiently.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// Where its interface begins: `http://localhost:8080/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Its key, if it wants one; keep it out of what you ship.
    pub key: Option<String>,
    /// How long to wait for the connection, and for the next word.
    pub timeout: Duration,
    /// The most requests under way at once; others wait.
    pub parallel: usize,
}

impl RemoteConfig {
    /// A server without a key, ten seconds of patience, eight requests at once.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            key: None,
            timeout: Duration::from_secs(10),
            parallel: 8,
        }
    }
}

/// The longest line a server may send, in bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// How long a step waits for news, so that whoever steps does not spin.
const NEWS: Duration = Duration::from_millis(2);

/// Asks a server. See the module's documentation.
pub struct Remote {
    config: Arc<RemoteConfig>,
    agent: ureq::Agent,
    next: u64,
    waiting: VecDeque<(RequestId, Value)>,
    running: BTreeMap<RequestId, Arc<AtomicBool>>,
    failed: Vec<Output>,
    news: (Sender<Output>, Receiver<Output>),
}

fn failed(config: &RemoteConfig, reason: impl std::fmt::Display) -> Error {
    Error::backend("asking a server", format!("{}: {reason}", config.url))
}

impl Remote {
    /// A backend that asks this server. Nothing is sent before the first request.
    pub fn new(config: RemoteConfig) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(config.timeout))
            .timeout_recv_response(Some(config.timeout))
            .build()
            .into();
        Self {
            config: Arc::new(config),
            agent,
            next: 0,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            failed: Vec::new(),
            news: unbounded(),
        }
    }

    fn body(&self, request: &Request) -> Result<Value> {
        request.sampling.validate("options")?;
        let messages = match &request.prompt {
            Prompt::Chat(messages) => messages.clone(),
            Prompt::Text(text) => vec![Message::new("user", text)],
        };
        let sampling = &request.sampling;
        let mut body = json!({
            "model": self.config.model, "messages": messages, "stream": true,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens,
            "frequency_penalty": sampling.frequency_penalty, "presence_penalty": sampling.presence_penalty,
            "seed": request.seed.stream().below(1 << 31),
        });
        if !sampling.stop.is_empty() {
            body["stop"] = json!(sampling.stop);
        }
        if let Some(constraint) = &request.constraint {
            let Some(schema) = constraint.schema() else {
                let reason = format!("a server cannot hold an answer to {}", constraint.rule());
                let remedy = "ask for a JSON schema, or use a model of your own";
                return Err(Error::config("options", "constraint", reason, remedy));
            };
            body["response_format"] = json!({
                "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true },
            });
        }
        Ok(body)
    }

    fn start(&mut self) {
        while self.running.len() < self.config.parallel.max(1)
            && let Some((id, body)) = self.waiting.pop_front()
        {
            let cancelled = Arc::new(AtomicBool::new(false));
            self.running.insert(id, Arc::clone(&cancelled));
            let ask = Ask {
                id,
                config: Arc::clone(&self.config),
                agent: self.agent.clone(),
                news: self.news.0.clone(),
                cancelled,
            };
            let spawned = std::thread::Builder::new().name("skald remote".into()).spawn(move || {
                let end = ask.answer(&body);
                let end = end.unwrap_or_else(|error| Output::Failed { id, error });
                let _ = ask.news.send(end);
            });
            if let Err(error) = spawned {
                self.running.remove(&id);
                self.failed.push(Output::Failed { id, error: failed(&self.config, error) });
            }
        }
    }
}

/// One request under way.
struct Ask {
    id: RequestId,
    config: Arc<RemoteConfig>,
    agent: ureq::Agent,
    news: Sender<Output>,
    cancelled: Arc<AtomicBool>,
}

impl Ask {
    fn answer(&self, body: &Value) -> Result<Output> {
        let wrong = |reason: &dyn std::fmt::Display| failed(&self.config, reason);
        let url = format!("{}/chat/completions", self.config.url.trim_end_matches('/'));
        let mut post = self.agent.post(&url).header("content-type", "application/json");
        if let Some(key) = &self.config.key {
            post = post.header("authorization", &format!("Bearer {key}"));
        }
        // Between two words no more time may pass than until the first.
        let post = post.config().timeout_recv_body(Some(self.config.timeout * 30)).build();
        let response = post.send(body.to_string()).map_err(|e| wrong(&e))?;
        let status = response.status();
        let mut reader = BufReader::new(response.into_body().into_reader());
        if !status.is_success() {
            let mut text = String::new();
            let _ = reader.take(400).read_to_string(&mut text);
            return Err(wrong(&format!("it answered {status}: {}", text.replace(['\n', '\r'], " "))));
        }
        let (mut pieces, mut finish) = (0, None);
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                break;
            }
            let mut line = Vec::new();
            let read =
                reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|e| wrong(&e))?;
            if read as u64 == LONGEST_LINE {
                return Err(wrong(&"it sent a line of more than a megabyte"));
            }
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.trim().strip_prefix("data:") else {
                if read == 0 {
                    break;
                }
                continue;
            };
            if data.trim() == "[DONE]" {
                break;
            }
            let event: Value =
                serde_json::from_str(data).map_err(|e| wrong(&format!("it sent no JSON: {e}")))?;
            if let Some(error) = event.get("error") {
                return Err(wrong(&format!("it said {error}")));
            }
            let choice = &event["choices"][0];
            if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
                pieces += 1;
                let _ = self.news.send(Output::Delta { id: self.id, text: text.to_owned() });
            }
            match choice["finish_reason"].as_str() {
                Some("length") => finish = Some(Finish::Length),
                Some(_) => finish = Some(Finish::Stop),
                None => {}
            }
        }
        let finish = finish.ok_or_else(|| wrong(&"the answer broke off"))?;
        Ok(Output::Finished { id: self.id, finish, tokens: pieces, mean_log_probability: 0.0, dropped: 0 })
    }
}

impl Backend for Remote {
    fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        match self.body(&request) {
            Ok(body) => self.waiting.push_back((id, body)),
            Err(error) => self.failed.push(Output::Failed { id, error }),
        }
        id
    }

    fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if let Some(cancelled) = self.running.remove(&id) {
            cancelled.store(true, Ordering::Relaxed);
        }
    }

    fn step(&mut self, outputs: &mut Vec<Output>) -> Result<()> {
        self.start();
        outputs.append(&mut self.failed);
        let mut news = if outputs.is_empty() { self.news.1.recv_timeout(NEWS).ok() } else { None };
        while let Some(output) = news.take().or_else(|| self.news.1.try_recv().ok()) {
            let (id, ends) = match &output {
                Output::Delta { id, .. } => (*id, false),
                Output::Finished { id, .. } | Output::Failed { id, .. } => (*id, true),
            };
            // What was cancelled may still say a word.
            if self.running.contains_key(&id) {
                outputs.push(output);
            }
            if ends {
                self.running.remove(&id);
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.failed.is_empty()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.running.values().for_each(|cancelled| cancelled.store(true, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Constraint, Sampling};
    use crate::seed::Seed;
    use crate::text::Tokenizer;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    /// A server that gives each caller in turn one of these answers, and what it was asked.
    fn server(answers: Vec<String>) -> (RemoteConfig, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (sender, asked) = unbounded();
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut length, mut line) = (0, String::new());
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                        length = n.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                sender.send(String::from_utf8(body).unwrap()).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let config = RemoteConfig { timeout: Duration::from_millis(500), ..RemoteConfig::new(url, "small") };
        (config, asked)
    }

    fn stream(events: &[&str]) -> String {
        let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn request(constraint: Option<Box<dyn Constraint>>) -> Request {
        Request {
            prompt: Prompt::Chat(vec![Message::new("system", "Be brief."), Message::new("user", "Hello?")]),
            sampling: Sampling { stop: vec!["\n".into()], ..Sampling::default() },
            seed: Seed::new(1),
            constraint,
            priority: 0,
            adapter: None,
        }
    }

    fn all(remote: &mut Remote) -> Vec<Output> {
        let (mut outputs, since) = (Vec::new(), Instant::now());
        while !remote.is_idle() {
            remote.step(&mut outputs).unwrap();
            assert!(since.elapsed() < Duration::from_secs(30), "it hangs");
        }
        outputs
    }

    struct Schema(Option<Value>);

    impl Constraint for Schema {
        fn begin(&mut self, _: &Tokenizer) {}
        fn mask(&mut self, _: &mut [f32]) {}
        fn accept(&mut self, _: u32) -> bool {
            false
        }
        fn schema(&self) -> Option<&Value> {
            self.0.as_ref()
        }
        fn rule(&self) -> String {
            "a song".into()
        }
    }

    #[test]
    fn an_answer_is_streamed_and_the_request_is_the_protocols() {
        let word = |text: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        let end = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let (config, asked) = server(vec![stream(&[&word("Good "), &word("day."), end, "[DONE]"])]);
        let mut remote = Remote::new(config);
        let schema = json!({ "type": "string" });
        remote.submit(request(Some(Box::new(Schema(Some(schema.clone()))))));
        let outputs = all(&mut remote);
        let text: String = outputs
            .iter()
            .filter_map(
                |output| if let Output::Delta { text, .. } = output { Some(text.as_str()) } else { None },
            )
            .collect();
        assert_eq!(text, "Good day.");
        assert!(matches!(outputs.last(), Some(Output::Finished { finish: Finish::Stop, tokens: 2, .. })));
        let asked: Value = serde_json::from_str(&asked.recv().unwrap()).unwrap();
        assert_eq!(asked["messages"][1], json!({ "role": "user", "content": "Hello?" }));
        assert_eq!(asked["response_format"]["json_schema"]["schema"], schema);
        assert_eq!((&asked["stream"], &asked["stop"][0]), (&json!(true), &json!("\n")));
    }

    #[test]
    fn a_server_that_errs_breaks_off_or_is_away_fails_only_the_request() {
        let refused = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy".to_owned();
        let answers =
            vec![refused, stream(&["{]"]), stream(&[r#"{"choices":[]}"#]), stream(&[r#"{"error":"no"}"#])];
        let (config, _asked) = server(answers);
        let mut remote = Remote::new(RemoteConfig { parallel: 1, ..config });
        for _ in 0..5 {
            remote.submit(request(None));
        }
        remote.submit(request(Some(Box::new(Schema(None)))));
        let errors: Vec<String> = all(&mut remote)
            .iter()
            .filter_map(|output| {
                if let Output::Failed { error, .. } = output { Some(error.to_string()) } else { None }
            })
            .collect();
        assert_eq!(errors.len(), 6, "{errors:?}");
        for part in ["a song", "503", "no JSON", "broke off", "no"] {
            assert!(errors.iter().any(|error| error.contains(part)), "{part}: {errors:?}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up_and_a_cancelled_request_is_silent() {
        let (config, _asked) = server(vec![String::new()]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let mut remote = Remote::new(RemoteConfig { url, ..config });
        remote.submit(request(None));
        assert!(matches!(all(&mut remote).as_slice(), [Output::Failed { .. }]));
        let id = remote.submit(request(None));
        remote.step(&mut Vec::new()).unwrap();
        remote.cancel(id);
        assert!(remote.is_idle());
    }
}
