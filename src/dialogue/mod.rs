//! Personas, prompts, lines.
