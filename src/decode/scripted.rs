//! [`Scripted`]: a backend that answers from authored lines, for tests and for no model at all.

use super::backend::{Backend, Finish, Output, Request, RequestId};
use crate::error::{Error, Result};
use std::collections::VecDeque;

type Script = Box<dyn FnMut(&Request) -> Result<String> + Send>;

/// Answers from a function of the request, a word a step.
pub struct Scripted {
    script: Script,
    running: Vec<(RequestId, VecDeque<String>, usize)>,
    failed: Vec<(RequestId, Error)>,
    next: u64,
}

impl Scripted {
    /// A backend whose answers `script` writes. An `Err` becomes [`Output::Failed`].
    pub fn new(script: impl FnMut(&Request) -> Result<String> + Send + 'static) -> Self {
        Self { script: Box::new(script), running: Vec::new(), failed: Vec::new(), next: 0 }
    }

    /// Always the same answer.
    pub fn line(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(move |_| Ok(text.clone()))
    }
}

impl Backend for Scripted {
    fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        match (self.script)(&request) {
            Ok(text) => {
                let words = text.split_inclusive(' ').take(request.sampling.max_tokens);
                let words: VecDeque<String> = words.map(str::to_owned).collect();
                self.running.push((id, words, 0));
            }
            Err(error) => self.failed.push((id, error)),
        }
        id
    }

    fn cancel(&mut self, id: RequestId) {
        self.running.retain(|(running, ..)| *running != id);
        self.failed.retain(|(failed, _)| *failed != id);
    }

    fn step(&mut self, outputs: &mut Vec<Output>) -> Result<()> {
        outputs.extend(self.failed.drain(..).map(|(id, error)| Output::Failed { id, error }));
        self.running.retain_mut(|(id, words, said)| match words.pop_front() {
            Some(text) => {
                *said += 1;
                outputs.push(Output::Delta { id: *id, text });
                true
            }
            None => {
                let (id, tokens) = (*id, *said);
                outputs.push(Output::Finished {
                    id,
                    finish: Finish::Stop,
                    tokens,
                    mean_log_probability: 0.0,
                    dropped: 0,
                });
                false
            }
        });
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.failed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Sampling;
    use crate::seed::Seed;

    #[test]
    fn a_scripted_line_comes_word_by_word() {
        let mut backend = Scripted::line("one two three");
        let request = Request {
            prompt: "".into(),
            sampling: Sampling::default(),
            seed: Seed::new(0),
            constraint: None,
            priority: 0,
            adapter: None,
        };
        let id = backend.submit(request);
        let (mut text, mut steps) = (String::new(), 0);
        while !backend.is_idle() {
            let mut outputs = Vec::new();
            backend.step(&mut outputs).unwrap();
            steps += 1;
            for output in outputs {
                if let Output::Delta { id: of, text: more } = output {
                    assert_eq!(of, id);
                    text += &more;
                }
            }
        }
        assert_eq!((text.as_str(), steps), ("one two three", 4));
    }
}
