//! What `check` looks at beyond the load.

pub mod cases;
