//! How an application writes a definition: its steps, their services, and what each step needs of others.

pub(in crate::saga) mod builder;
pub(in crate::saga) mod definition;
pub(in crate::saga) mod needs;
pub(in crate::saga) mod step;
