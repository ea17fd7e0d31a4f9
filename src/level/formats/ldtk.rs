//! `LDtk`'s projects (<https://ldtk.io/json/>): each level's first `IntGrid` layer. A value's identifier is the tile's
//! character (`c_` and its code point, for characters that `LDtk` does not take in names).

use super::super::game::TileGame;
use super::super::grid::Grid;
use super::grid;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

const SIDE: usize = 16;

pub(super) fn write(game: &TileGame, grid: &Grid) -> String {
    let values: Vec<Value> = game
        .tiles
        .iter()
        .enumerate()
        .map(|(i, tile)| {
            let (r, g, b) = super::super::picture::colour(tile);
            json!({ "value": i + 1, "identifier": format!("c_{}", u32::from(tile.char)),
                "color": format!("#{r:02X}{g:02X}{b:02X}"), "tile": null, "groupUid": 0 })
        })
        .collect();
    let csv: Vec<u32> = grid.tiles().iter().map(|tile| u32::from(*tile) + 1).collect();
    let (w, h) = (grid.width(), grid.height());
    let project = json!({
        "jsonVersion": "1.5.3", "worldLayout": "Free", "defaultGridSize": SIDE, "externalLevels": false,
        "defs": {
            "layers": [{ "identifier": "Tiles", "type": "IntGrid", "__type": "IntGrid", "uid": 1, "gridSize": SIDE,
                "intGridValues": values }],
            "entities": [], "tilesets": [], "enums": [], "externalEnums": [], "levelFields": [],
        },
        "levels": [{ "identifier": "Level_0", "iid": "level-0", "uid": 0, "worldX": 0, "worldY": 0, "worldDepth": 0,
            "pxWid": w * SIDE, "pxHei": h * SIDE, "fieldInstances": [],
            "layerInstances": [{ "__identifier": "Tiles", "__type": "IntGrid", "__cWid": w, "__cHei": h,
                "__gridSize": SIDE, "iid": "layer-0", "levelId": 0, "layerDefUid": 1, "visible": true,
                "intGridCsv": csv, "autoLayerTiles": [], "gridTiles": [], "entityInstances": [] }] }],
    });
    format!("{project:#}\n")
}

pub(super) fn read(game: &TileGame, text: &str, file: &str) -> Result<Vec<Grid>> {
    let project: Value = serde_json::from_str(text).map_err(|e| Error::Syntax {
        file: file.to_owned(),
        line: e.line(),
        column: e.column(),
        reason: e.to_string(),
        remedy: "give a project that LDtk saved".into(),
    })?;
    let missing = |field: &str| {
        Error::config(file, field, "it is missing", "save the project from LDtk, levels within it")
    };
    let array = |value: &Value, field: &str| value[field].as_array().cloned().ok_or_else(|| missing(field));
    // The characters of each layer's values.
    let mut layers: HashMap<u64, HashMap<u64, char>> = HashMap::new();
    for layer in array(&project["defs"], "layers")? {
        let Some(uid) = layer["uid"].as_u64() else { continue };
        let values = layer["intGridValues"].as_array().cloned().unwrap_or_default();
        let named = values.iter().filter_map(|value| {
            let name = value["identifier"].as_str()?;
            let coded = name.strip_prefix("c_").and_then(|code| char::from_u32(code.parse().ok()?));
            let mut chars = name.chars();
            let char = coded.or_else(|| chars.next().filter(|_| chars.next().is_none()))?;
            Some((value["value"].as_u64()?, char))
        });
        layers.insert(uid, named.collect());
    }
    let mut grids = Vec::new();
    for level in array(&project, "levels")? {
        for layer in
            array(&level, "layerInstances")?.iter().filter(|layer| layer["__type"] == "IntGrid").take(1)
        {
            let number = |field: &str| layer[field].as_u64().ok_or_else(|| missing(field));
            let size = (number("__cWid")? as usize, number("__cHei")? as usize);
            let csv = array(layer, "intGridCsv")?;
            let chars = layers.get(&number("layerDefUid")?).ok_or_else(|| missing("layerDefUid"))?;
            grids.push(grid(size, file, "intGridCsv", csv.len(), |i| match csv[i].as_u64()? {
                0 => game.empty(),
                value => game.tile(*chars.get(&value)?),
            })?);
        }
    }
    if grids.is_empty() { Err(missing("levels")) } else { Ok(grids) }
}
