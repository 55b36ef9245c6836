//! JSON Schemas of the payloads: one document each, and all of them as the components of an OpenAPI document.

mod components;
mod document;
mod form;
mod nullable;
mod spelling;

pub use self::components::{Components, QueryField};
pub(crate) use self::nullable::Nullable;
pub(crate) use self::spelling::{add_nested, add_spelling};
