//! Nothing writes, whatever is tried.
