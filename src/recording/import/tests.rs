use super::*;
use crate::recording::Store;
use proptest::prelude::*;

fn imported(mapping: &str, rows: &str) -> Result<(Imported, Vec<crate::recording::Recorded>)> {
    let dir = tempfile::tempdir().unwrap();
    let (file, path) = (dir.path().join("rows"), dir.path().join("play.sqlite"));
    std::fs::write(&file, rows).unwrap();
    let told = import(&Mapping::from_ron(mapping, "m.ron")?, &[file], &path)?;
    let store = Store::open_read(&path)?;
    store.verify(None)?;
    let events = store.events(None).collect::<Result<_>>()?;
    Ok((told, events))
}

const CSV: &str = r#"(format: Csv, header: true, consent: Stated("a test"), player: "who", kind: In("what"),
    subject: "item", time: (column: "at"), values: {"score": "points"}, session_gap_s: 100)"#;

#[test]
fn a_table_becomes_sessions_in_the_order_of_time_under_pseudonyms() {
    let rows = "who,what,item,at,points\nada,Bought,\"a, sword\",200,7\nada,Bought,shield,100.5,\n\
                bob,Sold,sword,5,x\nada,Used,sword,400,1\n,Used,sword,1,1\nada,Used,sword,soon,1\n";
    let (told, events) = imported(CSV, rows).unwrap();
    assert_eq!((told.events, told.players, told.sessions), (4, 2, 3));
    let reasons: Vec<&str> = told.dropped.keys().map(String::as_str).collect();
    assert_eq!(reasons, ["no player in column `who`", "no time in column `at`"]);
    assert!(told.first_dropped.unwrap().ends_with("rows:6"));
    assert_eq!(events[0].payload, r#"{"subject":"shield"}"#);
    assert_eq!(
        (events[1].t_ms, events[1].payload.as_str()),
        (99_500, r#"{"subject":"a, sword","score":7.0}"#)
    );
    assert_eq!(events[3].payload, r#"{"subject":"sword","score":"x"}"#);
    assert!(events[0].player == events[2].player && events[0].player != events[3].player);
    assert!(events.iter().all(|event| !event.player.contains("ada")));
}

#[test]
fn every_format_gives_the_same_events() {
    let of = |format: &str, columns: [&str; 2], header: bool, rows: &str| {
        let [player, item] = columns;
        let mapping = format!(
            r#"(format: {format}, header: {header}, consent: Stated("t"), player: {player}, kind: Always("Took"), subject: {item})"#
        );
        let (_, events) = imported(&mapping, rows).unwrap();
        events.iter().map(|e| (e.t_ms, e.kind.clone(), e.payload.clone())).collect::<Vec<_>>()
    };
    let spaces = of("Spaces", ["0", "1"], false, "1 10\n1 11\n\n2  10\n");
    assert_eq!(spaces.len(), 3);
    assert_eq!(spaces, of("Tsv", ["0", "1"], false, "1\t10\n1\t11\n2\t10"));
    assert_eq!(spaces, of("Csv", ["\"u\"", "\"i\""], true, "i,u\n10,1\n11,1\n10,2\n"));
    let jsonl = "{\"u\":1,\"i\":\"10\"}\n{\"u\":\"1\",\"i\":11}\n{\"u\":2,\"i\":10}\n";
    assert_eq!(spaces, of("Jsonl", ["\"u\"", "\"i\""], false, jsonl));
}

#[test]
fn without_consent_nothing_is_written() {
    let mapping = r#"(format: Spaces, consent: Column(2), player: 0, kind: Always("Took"), subject: 1)"#;
    let (told, events) = imported(mapping, "a x yes\nb x no\nc x\n").unwrap();
    assert_eq!((told.events, events.len(), told.dropped["no consent"]), (1, 1, 2));
    let error = imported(mapping, "a x no\n").unwrap_err().to_string();
    assert!(error.contains("no consent") && error.contains("rows:1"), "{error}");
}

#[test]
fn a_mapping_that_does_not_fit_is_one_clear_error_and_no_store() {
    for (mapping, rows, part) in [
        (CSV, "player,what,item,at,points\n", "no column `who`"),
        (CSV, "", "there are no rows"),
        (&CSV.replace("header: true", "header: false"), "a,b\n", "`player`"),
        (&CSV.replace("Stated(\"a test\")", "Stated(\" \")"), "", "`consent`"),
        (&CSV.replace("player", "plaier"), "", "plaier"),
        (&CSV.replace("Csv", "Jsonl"), "[1]\n{\n\u{1}\n", "no JSON object"),
    ] {
        let error = imported(mapping, rows).unwrap_err().to_string();
        assert!(error.contains(part) && error.lines().count() == 1, "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, path) = (dir.path().join("rows"), dir.path().join("play.sqlite"));
    std::fs::write(&file, "who\n").unwrap();
    assert!(import(&Mapping::from_ron(CSV, "m").unwrap(), &[file], &path).is_err());
    assert!(!path.exists());
}

#[test]
fn shipped_mappings_read() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/mappings");
    let mut read = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        Mapping::from_ron(&std::fs::read_to_string(&path).unwrap(), &path.display().to_string()).unwrap();
        read += 1;
    }
    assert!(read >= 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0usize..4) {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (dir.path().join("rows"), dir.path().join("play.sqlite"));
        std::fs::write(&file, bytes).unwrap();
        let mapping = match which {
            0 => CSV.to_owned(),
            1 => CSV.replace("Csv", "Tsv"),
            2 => CSV.replace("Csv", "Jsonl").replace("header: true, ", ""),
            _ => r#"(format: Spaces, consent: Stated("t"), player: 0, kind: In(1), subject: 0)"#.to_owned(),
        };
        if let Ok(told) = import(&Mapping::from_ron(&mapping, "m").unwrap(), &[file], &path) {
            prop_assert_eq!(Store::open_read(&path).unwrap().stats().unwrap().events, told.events);
        }
    }
}
