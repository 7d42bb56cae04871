//! Text to Config, complete or refused.
