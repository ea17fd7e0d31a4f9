//! Tiled's maps (<https://doc.mapeditor.org/en/stable/reference/>): one tile layer, whose tile set names each tile's
//! character in the property `char`.

use super::super::game::TileGame;
use super::super::grid::Grid;
use super::grid;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

const SIDE: usize = 16;
/// Tiled keeps flips in a tile's highest bits.
const FLIPS: u64 = 0xf000_0000;

pub(super) fn tmj(game: &TileGame, grid: &Grid) -> String {
    let data: Vec<u32> = grid.tiles().iter().map(|tile| u32::from(*tile) + 1).collect();
    let tiles: Vec<Value> = game
        .tiles
        .iter()
        .enumerate()
        .map(|(id, tile)| {
            json!({ "id": id, "type": tile.name,
                "properties": [{ "name": "char", "type": "string", "value": tile.char.to_string() }] })
        })
        .collect();
    let (w, h) = (grid.width(), grid.height());
    let map = json!({
        "type": "map", "version": "1.10", "orientation": "orthogonal", "renderorder": "right-down", "infinite": false,
        "width": w, "height": h, "tilewidth": SIDE, "tileheight": SIDE, "nextlayerid": 2, "nextobjectid": 1,
        "layers": [{ "id": 1, "name": "tiles", "type": "tilelayer", "visible": true, "opacity": 1,
            "x": 0, "y": 0, "width": w, "height": h, "data": data }],
        "tilesets": [{ "firstgid": 1, "name": game.name, "tilewidth": SIDE, "tileheight": SIDE,
            "tilecount": game.tiles.len(), "columns": game.tiles.len(), "margin": 0, "spacing": 0, "tiles": tiles }],
    });
    format!("{map:#}\n")
}

pub(super) fn tmx(game: &TileGame, grid: &Grid) -> String {
    let (w, h, n) = (grid.width(), grid.height(), game.tiles.len());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<map version=\"1.10\" orientation=\"orthogonal\" renderorder=\"right-down\" \
         width=\"{w}\" height=\"{h}\" tilewidth=\"{SIDE}\" tileheight=\"{SIDE}\" infinite=\"0\" nextlayerid=\"2\" nextobjectid=\"1\">\n \
         <tileset firstgid=\"1\" name=\"{}\" tilewidth=\"{SIDE}\" tileheight=\"{SIDE}\" tilecount=\"{n}\" columns=\"{n}\">\n",
        escaped(&game.name)
    );
    for (id, tile) in game.tiles.iter().enumerate() {
        text += &format!(
            "  <tile id=\"{id}\" type=\"{}\"><properties><property name=\"char\" value=\"{}\"/></properties></tile>\n",
            escaped(&tile.name),
            escaped(&tile.char.to_string())
        );
    }
    text += &format!(
        " </tileset>\n <layer id=\"1\" name=\"tiles\" width=\"{w}\" height=\"{h}\">\n  <data encoding=\"csv\">\n"
    );
    let rows: Vec<String> = grid
        .tiles()
        .chunks(w)
        .map(|row| row.iter().map(|tile| (u32::from(*tile) + 1).to_string()).collect::<Vec<_>>().join(","))
        .collect();
    text + &rows.join(",\n") + "\n</data>\n </layer>\n</map>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What a map says, whichever its syntax.
struct Map {
    size: (usize, usize),
    gids: Vec<u64>,
    /// The character of each global tile id.
    chars: HashMap<u64, char>,
}

impl Map {
    fn grid(&self, game: &TileGame, file: &str) -> Result<Grid> {
        grid(self.size, file, "layers", self.gids.len(), |i| match self.gids[i] & !FLIPS {
            0 => game.empty(),
            gid => game.tile(*self.chars.get(&gid)?),
        })
    }
}

fn one(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

pub(super) fn from_tmj(game: &TileGame, text: &str, file: &str) -> Result<Grid> {
    let map: Value = serde_json::from_str(text).map_err(|e| Error::Syntax {
        file: file.to_owned(),
        line: e.line(),
        column: e.column(),
        reason: e.to_string(),
        remedy: "give a map that Tiled exported as JSON".into(),
    })?;
    let missing = |field: &str| {
        Error::config(file, field, "it is missing", "export the map from Tiled, tile sets embedded")
    };
    let array = |value: &Value, field: &str| value[field].as_array().cloned().ok_or_else(|| missing(field));
    let layers = array(&map, "layers")?;
    let layer = layers.iter().find(|layer| layer["type"] == "tilelayer").ok_or_else(|| missing("layers"))?;
    let number = |value: &Value, field: &str| value[field].as_u64().ok_or_else(|| missing(field));
    let size = (number(layer, "width")? as usize, number(layer, "height")? as usize);
    let gids = array(layer, "data")?
        .iter()
        .map(|gid| gid.as_u64().ok_or_else(|| missing("data")))
        .collect::<Result<_>>()?;
    let mut chars = HashMap::new();
    for set in array(&map, "tilesets")? {
        let first = number(&set, "firstgid")?;
        for tile in array(&set, "tiles")? {
            let id = number(&tile, "id")?;
            let properties = tile["properties"].as_array().cloned().unwrap_or_default();
            let named = properties.iter().find(|property| property["name"] == "char");
            if let Some(char) = named.and_then(|property| one(property["value"].as_str()?)) {
                chars.insert(first.saturating_add(id), char);
            }
        }
    }
    Map { size, gids, chars }.grid(game, file)
}

pub(super) fn from_tmx(game: &TileGame, text: &str, file: &str) -> Result<Grid> {
    let tree = roxmltree::Document::parse(text).map_err(|e| Error::Syntax {
        file: file.to_owned(),
        line: e.pos().row as usize,
        column: e.pos().col as usize,
        reason: e.to_string(),
        remedy: "give a map that Tiled saved".into(),
    })?;
    let missing = |field: &str| {
        Error::config(
            file,
            field,
            "it is missing or no number",
            "save the map from Tiled, tile sets embedded, data as CSV",
        )
    };
    let find =
        |name: &str| tree.descendants().find(|node| node.has_tag_name(name)).ok_or_else(|| missing(name));
    let number = |node: roxmltree::Node<'_, '_>, field: &str| -> Result<u64> {
        node.attribute(field).and_then(|value| value.parse().ok()).ok_or_else(|| missing(field))
    };
    let (layer, data) = (find("layer")?, find("data")?);
    let size = (number(layer, "width")? as usize, number(layer, "height")? as usize);
    let csv = data.text().unwrap_or_default();
    let gids =
        csv.split(',').map(|gid| gid.trim().parse().map_err(|_| missing("data"))).collect::<Result<_>>()?;
    let mut chars = HashMap::new();
    for set in tree.descendants().filter(|node| node.has_tag_name("tileset")) {
        let first = number(set, "firstgid")?;
        for tile in set.children().filter(|node| node.has_tag_name("tile")) {
            let id = number(tile, "id")?;
            let named = tile.descendants().find(|node| node.attribute("name") == Some("char"));
            if let Some(char) = named.and_then(|node| one(node.attribute("value")?)) {
                chars.insert(first.saturating_add(id), char);
            }
        }
    }
    Map { size, gids, chars }.grid(game, file)
}
