//! Maps whose keys are `family@member`, written as objects in objects: `{"hr": {"10": 0.5}, "auc": 0.7}`.

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Node<V> {
    One(V),
    Family(BTreeMap<String, V>),
}

fn fold<V: Copy>(flat: &BTreeMap<String, V>) -> BTreeMap<String, Node<V>> {
    let mut nodes = BTreeMap::new();
    for (name, &value) in flat {
        match name.split_once('@') {
            None => {
                nodes.insert(name.clone(), Node::One(value));
            }
            Some((family, member)) => {
                let node = nodes.entry(family.to_owned()).or_insert_with(|| Node::Family(BTreeMap::new()));
                if let Node::Family(members) = node {
                    members.insert(member.to_owned(), value);
                }
            }
        }
    }
    nodes
}

fn unfold<V>(nodes: BTreeMap<String, Node<V>>) -> BTreeMap<String, V> {
    let mut flat = BTreeMap::new();
    for (name, node) in nodes {
        match node {
            Node::One(value) => {
                flat.insert(name, value);
            }
            Node::Family(members) => {
                flat.extend(members.into_iter().map(|(member, value)| (format!("{name}@{member}"), value)));
            }
        }
    }
    flat
}

pub(super) fn serialize<V: Copy + Serialize, S: Serializer>(
    flat: &BTreeMap<String, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    fold(flat).serialize(serializer)
}

pub(super) fn deserialize<'de, V: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    Ok(unfold(BTreeMap::deserialize(deserializer)?))
}

/// The same for each map of a map.
pub(super) mod each {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer, fold, unfold};

    type Flat = BTreeMap<String, BTreeMap<String, f64>>;

    pub fn serialize<S: Serializer>(maps: &Flat, serializer: S) -> Result<S::Ok, S::Error> {
        let nodes: BTreeMap<_, _> = maps.iter().map(|(name, flat)| (name, fold(flat))).collect();
        nodes.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Flat, D::Error> {
        let nodes: BTreeMap<String, _> = BTreeMap::deserialize(deserializer)?;
        Ok(nodes.into_iter().map(|(name, nodes)| (name, unfold(nodes))).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::evaluation::Report;

    #[test]
    fn families_are_objects_and_come_back() {
        let mut report = Report::default();
        for (name, figure) in [("auc", 0.7), ("hr@5", 0.25), ("hr@10", 0.5)] {
            report.set(name, Some(figure));
            report.ci95.insert(name.into(), [0.0, figure]);
        }
        report.baselines.insert("guessing".into(), report.figures.clone());
        let json = serde_json::to_value(&report).unwrap();
        for figures in [&json, &json["baselines"]["guessing"]] {
            assert_eq!(
                (&figures["auc"], &figures["hr"]["5"], &figures["hr"]["10"]),
                (&0.7.into(), &0.25.into(), &0.5.into())
            );
        }
        assert_eq!(json["ci95"]["hr"]["10"][1], 0.5);
        let back: Report = serde_json::from_value(json).unwrap();
        assert_eq!((back.figures, back.ci95), (report.figures, report.ci95));
        assert_eq!(back.baselines, report.baselines);
    }
}
