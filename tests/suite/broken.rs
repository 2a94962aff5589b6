//! Configurations with one fault each, beside the message it must give.
