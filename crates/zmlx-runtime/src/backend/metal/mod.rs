//! Metal: the text is the Metal shading language.

pub mod dialect;
