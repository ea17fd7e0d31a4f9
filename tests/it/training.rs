//! `skald train` from outside: kills, Ctrl-C, full disks and wrong usage.

use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str =
    "(model: (hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 24, context: 32),
    tokenizer: Characters, seed: 3, steps: 40, sequence: 32, rows: 4, learning_rate: 0.01, warmup_steps: 4,
    dropout: 0.1, validate_every: 6, checkpoint_every: 5, stored_as: F32)";

/// A folder with a config and a text.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.at("run.ron"), config).unwrap();
        let lines =
            (0..120).map(|n| format!("On day {n} the cat sat on the mat, and {} dogs sang.\n", n * 7 % 13));
        fs::write(place.at("text.txt"), lines.collect::<String>()).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn train(&self, out: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skald"));
        command.args(["train", "text", "--json", "--threads", "2", "--config"]).arg(self.at("run.ron"));
        command.arg("--data").arg(self.at("text.txt")).arg("--out").arg(out).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, out: &Path, more: &[&str]) -> Output {
        self.train(out, more).output().unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Everything a run leaves that does not depend on the clock: curve, model, and the state's tensors.
fn essence(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in ["curve.jsonl", "config.json", "model.safetensors", "tokenizer.json"] {
        found.insert(name.to_owned(), fs::read(out.join(name)).unwrap());
    }
    let state = fs::read(out.join("training_state.safetensors")).unwrap();
    for (name, view) in SafeTensors::deserialize(&state).unwrap().iter() {
        found.insert(name.to_owned(), view.data().to_vec());
    }
    found
}

fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (essence(a), essence(b));
    assert!(a.keys().eq(b.keys()));
    let differing: Vec<_> =
        a.iter().filter(|(name, bytes)| b[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "these differ: {differing:?}");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn assert_one_clear_error(output: &Output, code: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for part in parts {
        assert!(errors[0].contains(part), "`{part}` is not in: {}", errors[0]);
    }
}

#[test]
fn training_tells_every_step_and_leaves_a_checkpoint() {
    let place = Place::new(CONFIG);
    let out = place.at("run");
    let output = place.run(&out, &["--steps", "20"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = lines(&output);
    assert_eq!(lines.len(), 22);
    for (step, line) in lines[..21].iter().enumerate() {
        assert_eq!(line["step"], step);
        assert_eq!(line["train_loss"].is_f64(), step > 0, "{line}");
        assert_eq!(line["tokens_per_s"].is_f64(), step > 0, "{line}");
        assert_eq!(line["val_loss"].is_f64(), step % 6 == 0 || step == 20, "{line}");
        assert!(line["lr"].is_f64(), "{line}");
    }
    let last = &lines[21];
    assert_eq!((&last["done"], &last["steps"]), (&true.into(), &20.into()));
    assert!(last["best_val_loss"].as_f64() < last["first_val_loss"].as_f64(), "{last}");
    assert!(last["seconds"].is_f64() && last["checkpoint"].is_string());
    bevy_skald::model::Checkpoint::load(&out).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(out.join("data.json")).unwrap()).unwrap();
    assert!(report["data_hash"].is_string() && report["dropped"].is_object(), "{report}");
    assert!(names(&out).iter().all(|name| !name.starts_with('.')), "{:?}", names(&out));
}

/// Waits until `moment` or the process's end; whether it was killed.
fn kill_at(mut child: Child, mut moment: impl FnMut() -> bool) -> bool {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(120), "the training hangs");
        if moment() {
            child.kill().unwrap();
            return child.wait().unwrap().code().is_none();
        }
        std::hint::spin_loop();
    }
    false
}

#[test]
fn a_run_killed_again_and_again_equals_one_that_was_not() {
    let place = Place::new(CONFIG);
    let (straight, broken) = (place.at("straight"), place.at("broken"));
    assert!(place.run(&straight, &[]).status.success());
    let start = |resume: &[&str]| place.train(&broken, resume).stdout(Stdio::null()).spawn().unwrap();
    // Before anything is saved, then whenever a file of that name is being written.
    let begun = || names(&broken).iter().any(|name| name.contains("lock"));
    assert!(kill_at(start(&[]), begun));
    let mut kills = 0;
    for file in ["training_state", "curve", "model", "tokenizer", "skald", "data", "training_state", "model"]
    {
        let writing = || {
            names(&broken).iter().any(|name| name.starts_with(&format!(".{file}")) && name.ends_with(".tmp"))
        };
        // Leftovers of the kill before are swept at the start: they must not count as this one's.
        let mut swept = false;
        let moment = || {
            swept |= !writing();
            swept && writing()
        };
        kills += usize::from(kill_at(start(&["--resume"]), moment));
    }
    for wait in [40, 90, 150] {
        let since = Instant::now();
        let late = || since.elapsed() > Duration::from_millis(wait);
        kills += usize::from(kill_at(start(&["--resume"]), late));
    }
    assert!(kills >= 3, "only {kills} kills struck a living run");
    let output = place.run(&broken, &["--resume"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&straight, &broken);
    assert!(names(&broken).iter().all(|name| !name.starts_with('.')), "{:?}", names(&broken));
}

/// Sends Ctrl-C when the curve has so many lines.
#[cfg(unix)]
fn interrupt(child: Child, out: &Path, lines: usize) -> Output {
    let since = Instant::now();
    while fs::read_to_string(out.join("curve.jsonl")).unwrap_or_default().lines().count() < lines {
        assert!(since.elapsed() < Duration::from_secs(120), "the training does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_run_goes_on_as_if_nothing_had_been() {
    // Long enough not to end by itself before the signal.
    let place = Place::new(&CONFIG.replace("steps: 40", "steps: 400"));
    let (straight, broken) = (place.at("straight"), place.at("broken"));
    assert!(place.run(&straight, &[]).status.success());
    let output = interrupt(place.train(&broken, &[]).spawn().unwrap(), &broken, 10);
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("--resume"), "{}", stderr(&output));
    let last = lines(&output).pop().unwrap();
    assert_eq!(last["done"], false);
    assert!(last["steps"].as_u64().unwrap() < 400);
    assert!(place.run(&broken, &["--resume"]).status.success());
    assert_same(&straight, &broken);
}

#[test]
fn what_does_not_fit_the_run_in_the_directory_is_refused_by_name() {
    let place = Place::new(CONFIG);
    let out = place.at("run");
    assert_one_clear_error(&place.run(&out, &["--resume"]), 1, &["--resume", "no run to go on with"]);
    assert!(!out.exists());
    assert!(place.run(&out, &["--steps", "6"]).status.success());
    let before = essence(&out);
    assert_one_clear_error(&place.run(&out, &["--steps", "6"]), 1, &["--out", "holds a run", "--resume"]);
    assert_one_clear_error(&place.run(&out, &["--steps", "7", "--resume"]), 1, &["`steps`", "6", "7"]);
    let seed = ["--steps", "6", "--resume", "--seed", "4"];
    assert_one_clear_error(&place.run(&out, &seed), 1, &["`seed`"]);
    fs::write(place.at("text.txt"), "other words ".repeat(99)).unwrap();
    assert_one_clear_error(&place.run(&out, &["--steps", "6", "--resume"]), 1, &["--data"]);
    // A model without a run is not written over either.
    fs::remove_file(out.join("training_state.safetensors")).unwrap();
    assert_one_clear_error(&place.run(&out, &["--steps", "6"]), 1, &["holds a model"]);
    assert_eq!(before["model.safetensors"], fs::read(out.join("model.safetensors")).unwrap());
}

#[test]
fn bad_input_is_one_clear_error_and_leaves_nothing() {
    let place = Place::new(CONFIG);
    let out = place.at("run");
    let text = fs::read(place.at("text.txt")).unwrap();
    let cases: [(&[u8], &[&str]); 4] = [
        (b"", &["there is no text", "text.txt"]),
        (b" \n\n ", &["there is no text"]),
        (b"x", &["part is empty"]),
        (b"fine\nnot \xff fine", &["not UTF-8", "text.txt:2"]),
    ];
    for (bytes, parts) in cases {
        fs::write(place.at("text.txt"), bytes).unwrap();
        assert_one_clear_error(&place.run(&out, &[]), 1, parts);
        assert!(!out.exists(), "{parts:?} left {:?}", names(&out));
    }
    fs::remove_file(place.at("text.txt")).unwrap();
    assert_one_clear_error(&place.run(&out, &[]), 1, &["text.txt", "check the path"]);
    fs::create_dir(place.at("text.txt")).unwrap();
    assert_one_clear_error(&place.run(&out, &[]), 1, &["there is no text"]);
    fs::remove_dir(place.at("text.txt")).unwrap();
    fs::write(place.at("text.txt"), text).unwrap();
    fs::write(place.at("file"), b"").unwrap();
    assert_one_clear_error(&place.run(&place.at("file/run"), &[]), 1, &["file/run"]);
    for (from, to, part) in
        [("seed: 3", "sead: 3", "sead"), ("rows: 4", "rows: 0", "`rows`"), ("rows: 4", "rows: x", "run.ron:")]
    {
        fs::write(place.at("run.ron"), CONFIG.replace(from, to)).unwrap();
        assert_one_clear_error(&place.run(&out, &[]), 1, &[part]);
    }
    fs::remove_file(place.at("run.ron")).unwrap();
    assert_one_clear_error(&place.run(&out, &[]), 1, &["run.ron", "check the path"]);
    assert!(!out.exists());
}

#[test]
fn divergence_keeps_the_best_checkpoint() {
    let wild = CONFIG.replace("learning_rate: 0.01", "learning_rate: 10.0, clip_norm: 0.0");
    let place = Place::new(&wild.replace("steps: 40", "steps: 400"));
    let out = place.at("run");
    assert_one_clear_error(&place.run(&out, &[]), 1, &["loss became", "learning_rate"]);
    bevy_skald::model::Checkpoint::load(&out).unwrap();
}

/// A small file system in memory, gone when dropped.
#[cfg(target_os = "linux")]
struct SmallDisk(PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then_some(Self(at))
    }

    fn grow(&self) {
        let done = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_too_small_is_one_clear_error_and_the_run_goes_on_when_there_is_room() {
    let place = Place::new(CONFIG);
    let straight = place.at("straight");
    assert!(place.run(&straight, &[]).status.success());
    // Full at the first state, at the first model, and later.
    for size in ["32k", "72k", "96k"] {
        let Some(disk) = SmallDisk::mount(place.at(size), &format!("size={size}")) else {
            eprintln!("skipped: only root may mount a small file system");
            return;
        };
        let out = disk.0.join("run");
        assert_one_clear_error(&place.run(&out, &[]), 1, &["free some space"]);
        assert!(names(&out).iter().all(|name| !name.ends_with(".tmp")), "{:?}", names(&out));
        disk.grow();
        let begun = out.join("training_state.safetensors").exists();
        let output = place.run(&out, if begun { &["--resume"] } else { &[] });
        assert!(output.status.success(), "{size}: {}", stderr(&output));
        assert_same(&straight, &out);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_on_the_way_costs_nothing_that_was_saved() {
    let place = Place::new(&CONFIG.replace("steps: 40", "steps: 200"));
    let straight = place.at("straight");
    assert!(place.run(&straight, &[]).status.success());
    // Room for nothing, and room for the curve but not for a state.
    for room in [0, 24 << 10] {
        let Some(disk) = SmallDisk::mount(place.at(&format!("disk{room}")), "size=1m") else {
            eprintln!("skipped: only root may mount a small file system");
            return;
        };
        let out = disk.0.join("run");
        // Stopped, not killed: a leftover of a kill would be swept and make room.
        let stopped = interrupt(place.train(&out, &[]).spawn().unwrap(), &out, 10);
        assert_eq!(stopped.status.code(), Some(130), "{}", stderr(&stopped));
        let filler = disk.0.join("filler");
        let mut size = 1 << 20;
        while size > 0 && fs::write(&filler, vec![1; size]).is_err() {
            size -= 4096;
        }
        fs::write(&filler, vec![1; size.saturating_sub(room)]).unwrap();
        let saved = fs::read(out.join("training_state.safetensors")).unwrap();
        assert_one_clear_error(&place.run(&out, &["--resume"]), 1, &["free some space"]);
        assert!(saved == fs::read(out.join("training_state.safetensors")).unwrap());
        bevy_skald::model::Checkpoint::load(&out).unwrap();
        fs::remove_file(&filler).unwrap();
        let output = place.run(&out, &["--resume"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_same(&straight, &out);
    }
}
