//! What lies where: models, personas, runs; and the tables that are written.

use super::Clerk;
use crate::error::Result;
use crate::files::{read_limited, write_atomic};
use crate::inspector::layout::Panel;
use crate::inspector::snapshot::{ModelView, RunView, curves};
use crate::model::{CARD, Card};
use crate::training::runs;
use std::path::{Path, PathBuf};

/// The longest list that is shown.
const MOST: usize = 500;

/// The models in a directory: itself, or what lies in it.
fn models(dir: &Path) -> Vec<ModelView> {
    let card = |dir: &Path| {
        let bytes = read_limited(&dir.join(CARD), 1 << 24, "read the model's card").ok()?;
        let domain = Card::from_ron(&bytes, CARD).ok()?.domain;
        Some(ModelView { path: dir.to_owned(), domain })
    };
    match card(dir) {
        Some(model) => vec![model],
        None => entries(dir).iter().filter_map(|dir| card(dir)).collect(),
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.path()).take(MOST).collect();
    paths.sort();
    paths
}

fn run_view(run: runs::Run) -> RunView {
    RunView {
        curves: curves(&run.curve),
        domain: run.domain.unwrap_or_default(),
        best: run.best_val_loss,
        name: run.name,
        path: run.path,
        status: run.status,
        steps: run.steps,
        parameters: run.parameters,
    }
}

impl Clerk {
    pub(super) fn find_files(&mut self) {
        let mut found: Vec<ModelView> = self.places.models.iter().flat_map(|dir| models(dir)).collect();
        let personas: Vec<PathBuf> = self.places.personas.iter().flat_map(|dir| entries(dir)).collect();
        let personas =
            personas.into_iter().filter(|path| path.to_string_lossy().ends_with(".persona.ron")).collect();
        let mut views = Vec::new();
        if let Some(root) = self.places.runs.clone().filter(|root| root.is_dir()) {
            self.at(Panel::Training, |_| {
                let list = runs::find(&root)?;
                views = list.runs.into_iter().take(MOST).map(run_view).collect();
                Ok(())
            });
        }
        found.extend(views.iter().flat_map(|run: &RunView| models(&run.path)));
        found.sort_by(|a, b| (&a.domain, &a.path).cmp(&(&b.domain, &b.path)));
        found.dedup();
        let picks = self.picks();
        self.teller.tell(move |snapshot| {
            (snapshot.models, snapshot.personas) = (found, personas);
            snapshot.training.runs = views;
            snapshot.talk.picks = picks;
        });
    }

    /// Where picks are kept.
    pub(super) fn picks(&self) -> PathBuf {
        self.places.out().join("picks.jsonl")
    }

    /// Writes a table.
    pub(super) fn export(&mut self, name: &str, csv: &str) {
        let panel = match name {
            "runs" => Panel::Training,
            "evaluation" => Panel::Evaluation,
            "level" => Panel::Levels,
            "frames" => Panel::Performance,
            "players" => Panel::Players,
            _ => Panel::Recordings,
        };
        let path = self.places.out().join(format!("{name}.csv"));
        self.at(panel, |desk| -> Result<()> {
            write_atomic(&path, csv.as_bytes())?;
            let text = format!("the table is in {}", path.display());
            desk.teller.tell(move |snapshot| {
                snapshot.notes.insert(panel, text);
            });
            Ok(())
        });
    }
}
