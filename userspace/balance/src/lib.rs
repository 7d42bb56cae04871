//! Which backend serves a request.
