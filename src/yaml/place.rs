//! A path in a document → its line and column, found only when an error needs it.
